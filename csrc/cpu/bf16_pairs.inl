// Vectors of pairs of bfloat16, and rows of bfloat16 to and from vectors of float, by AVX512-BF16.
// Its products and its rounding take subnormal numbers for zero.
#pragma once

#include "half.inl"

namespace fastrnn {
namespace {

template <>
struct Vec<Bf16Pair> {
  typedef uint32_t Raw __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t kWidth = kVectorBytes / sizeof(Bf16Pair);

  Raw raw;

  Vec() = default;
  FASTRNN_INLINE Vec(Raw r) : raw(r) {}
  FASTRNN_INLINE Vec(__m512i r) : raw((Raw)r) {}

  // c + the products of both elements of a pair.
  FASTRNN_INLINE friend Vec<float> fma(Vec a, Vec b, Vec<float> c) {
    return Vec<float>(_mm512_dpbf16_ps(c.raw, (__m512bh)a.raw, (__m512bh)b.raw));
  }
};

FASTRNN_INLINE __mmask32 first_halves(int64_t n) { return static_cast<__mmask32>((1ull << n) - 1); }

// n >= 1 elements, zeros behind them. Whole halves move without a mask, as in avx512.inl.
FASTRNN_INLINE __m128i load_8_raw(const Bf16* p, int64_t n) {
  if (n >= 8) return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm_maskz_loadu_epi16(static_cast<__mmask8>(first_halves(n)), p);
}
FASTRNN_INLINE __m256i load_16_raw(const Bf16* p, int64_t n) {
  if (n >= 16) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  if (n == 8) return _mm256_zextsi128_si256(load_8_raw(p, n));
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>(first_halves(n)), p);
}
FASTRNN_INLINE void store_8_raw(Bf16* p, __m128i v, int64_t n) {
  if (n >= 8) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
  _mm_mask_storeu_epi16(p, static_cast<__mmask8>(first_halves(n)), v);
}

FASTRNN_INLINE Vec<float> widen_raw(__m256i v) {
  return Vec<float>(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)));
}
FASTRNN_INLINE __m256i narrow_raw(Vec<float> v) { return (__m256i)_mm512_cvtneps_pbh(v.raw); }

FASTRNN_INLINE Vec<float> load(const Bf16* p, int64_t n) { return widen_raw(load_16_raw(p, n)); }

FASTRNN_INLINE void store(Bf16* p, Vec<float> v, int64_t n) {
  const __m256i half = narrow_raw(v);
  if (n >= 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half);
  } else if (n == 8) {
    store_8_raw(p, _mm256_castsi256_si128(half), n);
  } else {
    _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(first_halves(n)), half);
  }
}

// As in vec.inl.
template <int R>
FASTRNN_INLINE Vec<float> load_rows(const Bf16* p, int64_t stride, int64_t n) {
  if constexpr (R == 2) {
    return widen_raw(_mm256_set_m128i(load_8_raw(p + stride, n), load_8_raw(p, n)));
  } else {
    return load(p, n);
  }
}

template <int R>
FASTRNN_INLINE void store_rows(Bf16* p, int64_t stride, Vec<float> v, int64_t n) {
  if constexpr (R == 2) {
    const __m256i half = narrow_raw(v);
    store_8_raw(p, _mm256_castsi256_si128(half), n);
    store_8_raw(p + stride, _mm256_extracti128_si256(half, 1), n);
  } else {
    store(p, v, n);
  }
}

// The pair at p in all lanes, or in the second half that at p + stride.
template <int R>
FASTRNN_INLINE Vec<Bf16Pair> broadcast_rows(const Bf16* p, int64_t stride) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  const __m512i first = _mm512_set1_epi32(pair);
  if constexpr (R == 1) return first;
  __builtin_memcpy(&pair, p + stride, sizeof(pair));
  return _mm512_mask_set1_epi32(first, 0xff00, pair);
}

FASTRNN_INLINE Vec<Bf16Pair> load_packed(const Bf16* p, int64_t n) {
  if (n >= 32) return _mm512_loadu_si512(p);
  return _mm512_maskz_loadu_epi16(first_halves(n), p);
}

// Pairs of the elements of two rows; second: null for zeros.
FASTRNN_INLINE Vec<Bf16Pair> load_pairs(const Bf16* first, const Bf16* second, int64_t n) {
  const __m512i low = _mm512_cvtepu16_epi32(load_16_raw(first, n));
  if (!second) return low;
  const __m512i high = _mm512_cvtepu16_epi32(load_16_raw(second, n));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

FASTRNN_INLINE void store(Bf16Pair* p, Vec<Bf16Pair> v, int64_t n) {
  const __m512i raw = (__m512i)v.raw;
  if (n >= 16) return _mm512_storeu_si512(p, raw);
  if (n == 8) {
    return _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(raw));
  }
  _mm512_mask_storeu_epi32(p, first_lanes(n), raw);
}

}  // namespace
}  // namespace fastrnn
