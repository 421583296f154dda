// Vec<T>: a SIMD vector of T with the functions cells.h asks for.
//
// Included once per instruction set, after its target pragma and after the file has defined
// kVectorBytes, kRowPairs, kLookups and, for the vectors of float and of double: fma_raw,
// load_partial_raw, store_partial_raw, pin_raw; even_raw and odd_raw, which take every second
// lane of each 16 bytes, those of `a` first, and where vectors are longer than 16 bytes
// even_pieces_raw and odd_pieces_raw, which take every second 16 bytes; min_raw and max_raw, which
// return the second operand if either is NaN; with kRowPairs, broadcast_pair_raw, load_pair_raw and
// store_pair_raw; with kLookups, lookup_raw of 32 floats by the low five bits of each lane.
// Everything here is internal to that file: code compiled for AVX-512 must never be the copy that
// the linker keeps for all.
#pragma once

namespace fastrnn {
namespace {

// Written out per type: GCC drops a vector_size that depends on a template parameter.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Raw __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t RawBits __attribute__((vector_size(kVectorBytes)));
  static constexpr uint32_t kMantissa = 23, kBias = 127;
};
template <>
struct Lanes<double> {
  typedef double Raw __attribute__((vector_size(kVectorBytes)));
  typedef uint64_t RawBits __attribute__((vector_size(kVectorBytes)));
  static constexpr uint64_t kMantissa = 52, kBias = 1023;
};

// A class, not the bare vector type: argument-dependent lookup must find tanh(Vec) from cells.h.
template <class T>
struct Vec {
  typedef typename Lanes<T>::Raw Raw;
  typedef typename Lanes<T>::RawBits RawBits;
  typedef T Element;
  static constexpr int64_t kWidth = kVectorBytes / sizeof(T);

  Raw raw;

  Vec() = default;
  FASTRNN_INLINE Vec(Raw r) : raw(r) {}
  FASTRNN_INLINE Vec(T x) : raw(x - Raw{}) {}  // x - 0 keeps the sign of a zero, 0 + x does not

  FASTRNN_INLINE friend Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  FASTRNN_INLINE friend Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  FASTRNN_INLINE friend Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  FASTRNN_INLINE friend Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
  FASTRNN_INLINE friend Vec operator-(Vec a) { return -a.raw; }
  FASTRNN_INLINE friend Vec fma(Vec a, Vec b, Vec c) { return fma_raw(a.raw, b.raw, c.raw); }
  FASTRNN_INLINE friend Vec min_keep_nan(Vec a, Vec limit) { return min_raw(limit.raw, a.raw); }
  FASTRNN_INLINE friend Vec max_keep_nan(Vec a, Vec limit) { return max_raw(limit.raw, a.raw); }
  FASTRNN_INLINE friend Vec step(Vec a) { return a.raw <= Raw{} ? Raw{} : Vec(T(1)).raw; }
  FASTRNN_INLINE friend Vec zero_if_less(Vec v, Vec a, Vec b) {
    return a.raw < b.raw ? Raw{} : v.raw;
  }
  FASTRNN_INLINE friend Vec abs(Vec a) { return (Raw)((RawBits)a.raw & ~sign_bits()); }
  FASTRNN_INLINE friend Vec copy_sign(Vec positive, Vec a) {
    return (Raw)((RawBits)positive.raw | ((RawBits)a.raw & sign_bits()));
  }
  FASTRNN_INLINE friend Vec low_bits_to_exponent(Vec v) {
    return (Raw)((RawBits)v.raw << Lanes<T>::kMantissa);
  }
  FASTRNN_INLINE friend Vec shift_right(Vec v, int bits) { return (Raw)((RawBits)v.raw >> bits); }
  FASTRNN_INLINE friend Vec lookup(const T* table, Vec place) {
    return lookup_raw(table, place.raw);
  }
  static FASTRNN_INLINE RawBits sign_bits() { return (RawBits)(-Raw{}); }
};

template <class T>
FASTRNN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v.raw, p, sizeof(v.raw));
  return v;
}

template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v.raw, sizeof(v.raw));
}

// The first n lanes, n >= 1; lanes from n on are zero, memory behind them is not touched.
template <class T>
FASTRNN_INLINE Vec<T> load(const T* p, int64_t n) {
  return n >= Vec<T>::kWidth ? load(p) : Vec<T>(load_partial_raw(p, n));
}

// n elements of a row as factors; of bfloat16 in pairs (bf16_pairs.inl).
template <class T>
FASTRNN_INLINE Vec<T> load_packed(const T* p, int64_t n) {
  return load(p, n);
}

template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v, int64_t n) {
  if (n >= Vec<T>::kWidth) {
    store(p, v);
  } else {
    store_partial_raw(p, v.raw, n);
  }
}

// R rows of n lanes in one vector, `stride` elements apart in memory; R = 2 wants n <= kWidth / 2.
template <int R, class T>
FASTRNN_INLINE Vec<T> load_rows(const T* p, int64_t stride, int64_t n) {
  if constexpr (R == 2) {
    return load_pair_raw(p, p + stride, n);
  } else {
    return load(p, n);
  }
}

template <int R, class T>
FASTRNN_INLINE void store_rows(T* p, int64_t stride, Vec<T> v, int64_t n) {
  if constexpr (R == 2) {
    store_pair_raw(p, p + stride, v.raw, n);
  } else {
    store(p, v, n);
  }
}

// The element at p in all lanes, or in the first half the one at p, in the second that at p +
// stride.
template <int R, class T>
FASTRNN_INLINE Vec<T> broadcast_rows(const T* p, int64_t stride) {
  if constexpr (R == 2) {
    return broadcast_pair_raw(p, p + stride);
  } else {
    return Vec<T>(*p);
  }
}

}  // namespace
}  // namespace fastrnn
