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

FASTRNN_INLINE float sum_raw(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FASTRNN_INLINE double sum_raw(__m256d v) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
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
