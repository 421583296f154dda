// bfloat16 and float16 as they are stored: 16 bits, without arithmetic. Kernels add up in float32:
// on float32 copies of them (cpu/widened.h), or where a CPU multiplies bfloat16, on pairs of it
// (cpu/pairs.inl).
#pragma once

#include <cstdint>

namespace fastrnn {

struct Bf16 {
  uint16_t bits;
};
struct Half16 {
  uint16_t bits;
};

template <class E>
struct Computed {
  typedef E type;
};
template <>
struct Computed<Bf16> {
  typedef float type;
};
template <>
struct Computed<Half16> {
  typedef float type;
};
// What kernels add up in for arrays of E.
template <class E>
using Wide = typename Computed<E>::type;

template <class E>
constexpr bool kOnlyStored = sizeof(E) < sizeof(Wide<E>);

// Two neighbours along a sum, whose products AVX512-BF16 adds at once.
struct Bf16Pair {
  Bf16 first, second;
};

template <class T>
struct Multiplied {
  typedef T type;
};
template <>
struct Multiplied<Bf16> {
  typedef Bf16Pair type;
};
// What a lane of a kernel's products holds of factors of type T; as many bytes as Wide<T>.
template <class T>
using Packed = typename Multiplied<T>::type;

template <class T>
constexpr int64_t kPackedElements = sizeof(Packed<T>) / sizeof(T);

// Packed rows for sums of K products.
template <class T>
constexpr int64_t packed_rows(int64_t K) {
  return (K + kPackedElements<T> - 1) / kPackedElements<T>;
}

}  // namespace fastrnn
