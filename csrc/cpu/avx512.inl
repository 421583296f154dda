// What vec.inl asks for, by AVX-512F.
#pragma once

namespace fastrnn {
namespace {

constexpr int kVectorBytes = 64;
constexpr bool kRowPairs = true;
constexpr bool kLookups = true;
constexpr int kAccumulators = 24;       // of 32 registers
constexpr int kGroup = 3;               // vectors whose cells are computed in step (group.inl)
constexpr int64_t kGradientRows = 128;  // of a sum in registers (gemm.inl)

FASTRNN_INLINE __m512 fma_raw(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
FASTRNN_INLINE __m512d fma_raw(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }

// The instruction returns its second operand if either is NaN.
FASTRNN_INLINE __m512 min_raw(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
FASTRNN_INLINE __m512d min_raw(__m512d a, __m512d b) { return _mm512_min_pd(a, b); }
FASTRNN_INLINE __m512 max_raw(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
FASTRNN_INLINE __m512d max_raw(__m512d a, __m512d b) { return _mm512_max_pd(a, b); }

FASTRNN_INLINE __m512 lookup_raw(const float* table, __m512 place) {
  return _mm512_permutex2var_ps(_mm512_load_ps(table), _mm512_castps_si512(place),
                                _mm512_load_ps(table + 16));
}

FASTRNN_INLINE __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

// Whole halves move without a mask: what a masked store wrote cannot be forwarded to a load.
FASTRNN_INLINE __m512 load_partial_raw(const float* p, int64_t n) {
  if (n == 8) return _mm512_zextps256_ps512(_mm256_loadu_ps(p));
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
FASTRNN_INLINE __m512d load_partial_raw(const double* p, int64_t n) {
  if (n == 4) return _mm512_zextpd256_pd512(_mm256_loadu_pd(p));
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
}
FASTRNN_INLINE void store_partial_raw(float* p, __m512 v, int64_t n) {
  if (n == 8) return _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
  _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
FASTRNN_INLINE void store_partial_raw(double* p, __m512d v, int64_t n) {
  if (n == 4) return _mm256_storeu_pd(p, _mm512_castpd512_pd256(v));
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(n)), v);
}

// Two rows in the halves of a vector, n <= half the lanes of each.
FASTRNN_INLINE __m512 broadcast_pair_raw(const float* first, const float* second) {
  return _mm512_mask_broadcastss_ps(_mm512_set1_ps(*first), 0xff00, _mm_load_ss(second));
}
FASTRNN_INLINE __m512d broadcast_pair_raw(const double* first, const double* second) {
  return _mm512_mask_broadcastsd_pd(_mm512_set1_pd(*first), 0xf0, _mm_load_sd(second));
}
FASTRNN_INLINE __m512d join(__m256d first, __m256d second) {
  return _mm512_insertf64x4(_mm512_castpd256_pd512(first), second, 1);
}
FASTRNN_INLINE __m512 load_pair_raw(const float* first, const float* second, int64_t n) {
  if (n == 8) {
    return _mm512_castpd_ps(
        join(_mm256_castps_pd(_mm256_loadu_ps(first)), _mm256_castps_pd(_mm256_loadu_ps(second))));
  }
  const __m512 low = load_partial_raw(first, n);
  return _mm512_mask_loadu_ps(low, static_cast<__mmask16>(first_lanes(n) << 8), second - 8);
}
FASTRNN_INLINE __m512d load_pair_raw(const double* first, const double* second, int64_t n) {
  if (n == 4) return join(_mm256_loadu_pd(first), _mm256_loadu_pd(second));
  const __m512d low = load_partial_raw(first, n);
  return _mm512_mask_loadu_pd(low, static_cast<__mmask8>(first_lanes(n) << 4), second - 4);
}
FASTRNN_INLINE void store_pair_raw(float* first, float* second, __m512 v, int64_t n) {
  if (n == 8) {
    _mm256_storeu_ps(first, _mm512_castps512_ps256(v));
    _mm256_storeu_pd(reinterpret_cast<double*>(second),
                     _mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
  } else {
    store_partial_raw(first, v, n);
    _mm512_mask_storeu_ps(second - 8, static_cast<__mmask16>(first_lanes(n) << 8), v);
  }
}
FASTRNN_INLINE void store_pair_raw(double* first, double* second, __m512d v, int64_t n) {
  if (n == 4) {
    _mm256_storeu_pd(first, _mm512_castpd512_pd256(v));
    _mm256_storeu_pd(second, _mm512_extractf64x4_pd(v, 1));
  } else {
    store_partial_raw(first, v, n);
    _mm512_mask_storeu_pd(second - 4, static_cast<__mmask8>(first_lanes(n) << 4), v);
  }
}

FASTRNN_INLINE __m512 load_f16_raw(const Half16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FASTRNN_INLINE void store_f16_raw(Half16* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

FASTRNN_INLINE __m512 even_raw(__m512 a, __m512 b) { return _mm512_shuffle_ps(a, b, 0x88); }
FASTRNN_INLINE __m512d even_raw(__m512d a, __m512d b) { return _mm512_unpacklo_pd(a, b); }
FASTRNN_INLINE __m512 odd_raw(__m512 a, __m512 b) { return _mm512_shuffle_ps(a, b, 0xdd); }
FASTRNN_INLINE __m512d odd_raw(__m512d a, __m512d b) { return _mm512_unpackhi_pd(a, b); }
FASTRNN_INLINE __m512 even_pieces_raw(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0x88);
}
FASTRNN_INLINE __m512d even_pieces_raw(__m512d a, __m512d b) {
  return _mm512_shuffle_f64x2(a, b, 0x88);
}
FASTRNN_INLINE __m512 odd_pieces_raw(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0xdd);
}
FASTRNN_INLINE __m512d odd_pieces_raw(__m512d a, __m512d b) {
  return _mm512_shuffle_f64x2(a, b, 0xdd);
}

// Keeps a loaded weight in a register; without it GCC folds the load into every FMA that uses it.
template <class Raw>
FASTRNN_INLINE void pin_raw(Raw& v) {
  asm("" : "+v"(v));
}

}  // namespace
}  // namespace fastrnn
