// The kernels for AVX-512F. Headers come before the target pragma: what they define must stay
// baseline code. GCC does not define __AVX512F__ after the pragma, so the width is said here.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

namespace fastrnn {
namespace {

constexpr char kIsaName[] = "avx512";
constexpr int kVectorBytes = 64;
constexpr int kAccumulators = 24;  // of 32 registers

FASTRNN_INLINE __m512 fma_raw(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
FASTRNN_INLINE __m512d fma_raw(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }

// The instruction returns its second operand if either is NaN.
FASTRNN_INLINE __m512 min_raw(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
FASTRNN_INLINE __m512d min_raw(__m512d a, __m512d b) { return _mm512_min_pd(a, b); }
FASTRNN_INLINE __m512 max_raw(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
FASTRNN_INLINE __m512d max_raw(__m512d a, __m512d b) { return _mm512_max_pd(a, b); }

FASTRNN_INLINE __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

FASTRNN_INLINE __m512 load_partial_raw(const float* p, int64_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
FASTRNN_INLINE __m512d load_partial_raw(const double* p, int64_t n) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
}
FASTRNN_INLINE void store_partial_raw(float* p, __m512 v, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
FASTRNN_INLINE void store_partial_raw(double* p, __m512d v, int64_t n) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(n)), v);
}

// Keeps a loaded weight in a register; without it GCC folds the load into every FMA that uses it.
template <class Raw>
FASTRNN_INLINE void pin_raw(Raw& v) {
  asm("" : "+v"(v));
}

}  // namespace
}  // namespace fastrnn

#include "kernels.inl"

namespace fastrnn {
const Kernels* const kAvx512Kernels = &kKernels;
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
namespace fastrnn {
const Kernels* const kAvx512Kernels = nullptr;
}
#endif
