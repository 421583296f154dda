// The kernels for AVX2 with FMA and F16C. Headers come before the target pragma: what they define
// must stay baseline code. GCC does not define __AVX2__ after the pragma, so the width is said
// here.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

namespace fastrnn {
namespace {

constexpr char kIsaName[] = "avx2";
constexpr int kVectorBytes = 32;
constexpr bool kRowPairs = false;
constexpr bool kLookups = false;
constexpr int kAccumulators = 12;       // of 16 registers
constexpr int kGroup = 3;               // vectors whose cells are computed in step (group.inl)
constexpr int64_t kGradientRows = 256;  // of a sum in registers (gemm.inl)

FASTRNN_INLINE __m256 fma_raw(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
FASTRNN_INLINE __m256d fma_raw(__m256d a, __m256d b, __m256d c) { return _mm256_fmadd_pd(a, b, c); }

// The instruction returns its second operand if either is NaN.
FASTRNN_INLINE __m256 min_raw(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
FASTRNN_INLINE __m256d min_raw(__m256d a, __m256d b) { return _mm256_min_pd(a, b); }
FASTRNN_INLINE __m256 max_raw(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
FASTRNN_INLINE __m256d max_raw(__m256d a, __m256d b) { return _mm256_max_pd(a, b); }

// A window on this table that starts n lanes before its middle has its first n lanes set.
alignas(64) const int32_t kLaneMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

FASTRNN_INLINE __m256i first_words(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMask + 8 - n));
}

FASTRNN_INLINE __m256 load_partial_raw(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, first_words(n));
}
FASTRNN_INLINE __m256d load_partial_raw(const double* p, int64_t n) {
  return _mm256_maskload_pd(p, first_words(2 * n));
}
FASTRNN_INLINE void store_partial_raw(float* p, __m256 v, int64_t n) {
  _mm256_maskstore_ps(p, first_words(n), v);
}
FASTRNN_INLINE void store_partial_raw(double* p, __m256d v, int64_t n) {
  _mm256_maskstore_pd(p, first_words(2 * n), v);
}

FASTRNN_INLINE __m256 load_f16_raw(const Half16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
FASTRNN_INLINE void store_f16_raw(Half16* p, __m256 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

FASTRNN_INLINE __m256 even_raw(__m256 a, __m256 b) { return _mm256_shuffle_ps(a, b, 0x88); }
FASTRNN_INLINE __m256d even_raw(__m256d a, __m256d b) { return _mm256_unpacklo_pd(a, b); }
FASTRNN_INLINE __m256 odd_raw(__m256 a, __m256 b) { return _mm256_shuffle_ps(a, b, 0xdd); }
FASTRNN_INLINE __m256d odd_raw(__m256d a, __m256d b) { return _mm256_unpackhi_pd(a, b); }
FASTRNN_INLINE __m256 even_pieces_raw(__m256 a, __m256 b) {
  return _mm256_permute2f128_ps(a, b, 0x20);
}
FASTRNN_INLINE __m256d even_pieces_raw(__m256d a, __m256d b) {
  return _mm256_permute2f128_pd(a, b, 0x20);
}
FASTRNN_INLINE __m256 odd_pieces_raw(__m256 a, __m256 b) {
  return _mm256_permute2f128_ps(a, b, 0x31);
}
FASTRNN_INLINE __m256d odd_pieces_raw(__m256d a, __m256d b) {
  return _mm256_permute2f128_pd(a, b, 0x31);
}

// Keeps a loaded weight in a register; without it GCC folds the load into every FMA that uses it.
template <class Raw>
FASTRNN_INLINE void pin_raw(Raw& v) {
  asm("" : "+x"(v));
}

}  // namespace
}  // namespace fastrnn

#include "all_kernels.inl"

namespace fastrnn {
const Kernels* const kAvx2Kernels = &kKernels;
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
namespace fastrnn {
const Kernels* const kAvx2Kernels = nullptr;
}
#endif
