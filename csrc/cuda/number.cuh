// Numbers as the cells compute with them, and elements as they are stored.
#pragma once

#include "../layer.h"
#include "device.cuh"

namespace fastrnn::cuda {

// float or double, with the operations that cells.h finds by argument-dependent lookup. No
// approximate functions: errors stay within 2 ulp.
template <class W>
struct Number {
  W value;

  Number() = default;
  __device__ __forceinline__ Number(W x) : value(x) {}

  friend __device__ __forceinline__ Number operator+(Number a, Number b) {
    return a.value + b.value;
  }
  friend __device__ __forceinline__ Number operator-(Number a, Number b) {
    return a.value - b.value;
  }
  friend __device__ __forceinline__ Number operator*(Number a, Number b) {
    return a.value * b.value;
  }
  friend __device__ __forceinline__ Number operator/(Number a, Number b) {
    return a.value / b.value;
  }
  friend __device__ __forceinline__ Number operator-(Number a) { return -a.value; }
  friend __device__ __forceinline__ Number fma(Number a, Number b, Number c) {
    return ::fma(a.value, b.value, c.value);
  }
  friend __device__ __forceinline__ Number tanh(Number x) { return ::tanh(x.value); }
  friend __device__ __forceinline__ Number sigmoid(Number x) {
    return W(1) / (W(1) + ::exp(-x.value));
  }
  friend __device__ __forceinline__ Number max_keep_nan(Number x, Number low) {
    return x.value < low.value ? low.value : x.value;
  }
  // 1 where y > 0, else 0.
  friend __device__ __forceinline__ Number step(Number y) { return y.value > W(0) ? W(1) : W(0); }
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ float widened(Bf16 x) {
  return __bfloat162float(__ushort_as_bfloat16(x.bits));
}
__device__ __forceinline__ float widened(Half16 x) {
  return __half2float(__ushort_as_half(x.bits));
}

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, Bf16& to) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ __forceinline__ void narrow(float x, Half16& to) {
  to.bits = __half_as_ushort(__float2half_rn(x));
}

// 16 bytes of elements, the widest load there is.
template <class E>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(E);
  E at[kSize];
};

// Reads past the first-level cache: what other multiprocessors wrote before the last grid-wide
// barrier is seen. The read-only path (__ldg, __restrict__) would not see it, and is used nowhere.
template <class E>
__device__ __forceinline__ Pack<E> load_pack(const E* from) {
  Pack<E> pack;
  const uint4 bits = __ldcg(reinterpret_cast<const uint4*>(from));
  memcpy(&pack, &bits, sizeof pack);
  return pack;
}

template <class E>
__device__ __forceinline__ E load_element(const E* from) {
  if constexpr (sizeof(E) == 2) {
    return E{__ldcg(reinterpret_cast<const unsigned short*>(from))};
  } else {
    return __ldcg(from);
  }
}

// The first `n` elements from `from`, which need no alignment, and zeros.
template <class E>
__device__ __forceinline__ Pack<E> load_pack(const E* from, int64_t n) {
  if (n >= Pack<E>::kSize && reinterpret_cast<uintptr_t>(from) % sizeof(Pack<E>) == 0) {
    return load_pack(from);
  }
  Pack<E> pack = {};
#pragma unroll
  for (int i = 0; i < Pack<E>::kSize; ++i) {
    if (i < n) pack.at[i] = load_element(from + i);
  }
  return pack;
}

}  // namespace fastrnn::cuda
