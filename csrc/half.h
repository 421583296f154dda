// bfloat16 and float16 as they are stored: 16 bits, without arithmetic. Kernels compute on float32
// copies of them (cpu/widened.h).
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
// What kernels compute in for arrays of E.
template <class E>
using Wide = typename Computed<E>::type;

}  // namespace fastrnn
