// bfloat16 and float16 to and from vectors of float.
#pragma once

#include "vec.inl"

namespace fastrnn {
namespace {

FASTRNN_INLINE Vec<float> load(const Half16* p) { return load_f16_raw(p); }
FASTRNN_INLINE void store(Half16* p, Vec<float> v) { store_f16_raw(p, v.raw); }

// bfloat16 is the upper half of a float.
typedef uint16_t HalfLanes __attribute__((vector_size(kVectorBytes / 2)));

FASTRNN_INLINE Vec<float> load(const Bf16* p) {
  HalfLanes half;
  __builtin_memcpy(&half, p, sizeof(half));
  typedef Lanes<float>::RawBits RawBits;
  return (Lanes<float>::Raw)(__builtin_convertvector(half, RawBits) << 16);
}

// Vector v of a panel's row whose vectors come in pairs, their lanes alternating: one operation
// gives either, while lanes that lie side by side would have to be moved as well.
FASTRNN_INLINE Vec<float> load_vector(const Bf16* row, int v) {
  typedef Lanes<float>::RawBits RawBits;
  RawBits pairs;
  __builtin_memcpy(&pairs, row + v / 2 * 2 * Vec<float>::kWidth, sizeof(pairs));
  constexpr int kFirst = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
  return (Lanes<float>::Raw)(v % 2 == kFirst ? pairs << 16 : pairs & 0xffff0000);
}

FASTRNN_INLINE void store(Bf16* p, Vec<float> v) {
  typedef Lanes<float>::RawBits RawBits;
  const RawBits bits = (RawBits)v.raw;
  const RawBits nearest = bits + 0x7fff + (bits >> 16 & 1);
  // Rounding could carry a NaN to infinity, cutting it off could leave infinity.
  const RawBits kept = v.raw != v.raw ? bits | 0x400000 : nearest;
  const HalfLanes half = __builtin_convertvector(kept >> 16, HalfLanes);
  __builtin_memcpy(p, &half, sizeof(half));
}

// The elements behind whole vectors, n < kWidth; memory behind them is not touched.
template <class E>
FASTRNN_INLINE void widen_tail(const E* from, int64_t n, float* to) {
  E lanes[Vec<float>::kWidth] = {};
  __builtin_memcpy(lanes, from, n * sizeof(E));
  store(to, load(lanes), n);
}

template <class E>
FASTRNN_INLINE void narrow_tail(const float* from, int64_t n, E* to) {
  E lanes[Vec<float>::kWidth];
  store(lanes, load(from, n));
  __builtin_memcpy(to, lanes, n * sizeof(E));
}

template <class E>
void widen(const E* from, int64_t from_stride, int64_t rows, int64_t n, float* to) {
  constexpr int64_t kWidth = Vec<float>::kWidth;
  if (from_stride == n) n *= rows, rows = 1;  // one run has one tail
  for (int64_t row = 0; row < rows; ++row, from += from_stride, to += n) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
    if (i < n) widen_tail(from + i, n - i, to + i);
  }
}

template <class E>
void narrow(const float* from, int64_t n, E* to) {
  constexpr int64_t kWidth = Vec<float>::kWidth;
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i < n) narrow_tail(from + i, n - i, to + i);
}

}  // namespace
}  // namespace fastrnn
