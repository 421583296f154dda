// How run_forward and run_backward serve types that are only stored (half.h): where kernels have no
// products of them, they compute on float32 copies, of the weights once a call, of all else a few
// steps at a time.
#pragma once

#include <type_traits>

#include "../half.h"
#include "machine.h"
#include "scratch.h"

namespace fastrnn {

// Calls body(C{}) with the type that kernels take for arrays of E.
template <class E, class Body>
void with_kernel_type(const Body& body) {
  if constexpr (std::is_same_v<E, Bf16>) {
    if (current_kernels().bf16_products) return body(E{});
  }
  body(Wide<E>{});
}

template <class E>
void widen(const E* from, int64_t from_stride, int64_t rows, int64_t n, float* to) {
  current_kernels().conversion<E>().widen(from, from_stride, rows, n, to);
}

template <class E>
void narrow(const float* from, int64_t n, E* to) {
  current_kernels().conversion<E>().narrow(from, n, to);
}

// A dense array in the compute type: the array itself, or a copy. Null stays null.
template <class E, class C = Wide<E>>
class Widened {
 public:
  Widened(const E* data, int64_t) : data_(data) {}
  operator const E*() const { return data_; }

 private:
  const E* data_;
};

template <class E>
class Widened<E, std::enable_if_t<kOnlyStored<E>, float>> {
 public:
  Widened(const E* data, int64_t n) : given_(data != nullptr), copy_(given_ ? n : 0) {
    if (given_) widen(data, n, 1, n, copy_);
  }
  operator const float*() const { return given_ ? static_cast<float*>(copy_) : nullptr; }

 private:
  bool given_;
  Scratch<float> copy_;
};

// A dense array in bfloat16: the array itself, or a rounded copy.
template <class E>
class Narrowed {
 public:
  Narrowed(const E* data, int64_t n) : copy_(n) {
    const Widened<E> wide(data, n);
    narrow<Bf16>(wide, n, copy_);
  }
  operator const Bf16*() const { return copy_; }

 private:
  Scratch<Bf16> copy_;
};

template <>
class Narrowed<Bf16> {
 public:
  Narrowed(const Bf16* data, int64_t) : data_(data) {}
  operator const Bf16*() const { return data_; }

 private:
  const Bf16* data_;
};

// Float arrays one behind the other in memory that the caller owns.
class Carver {
 public:
  explicit Carver(float* memory) : next_(memory) {}
  float* take(int64_t n) {
    float* taken = next_;
    next_ += n;
    return taken;
  }

 private:
  float* next_;
};

}  // namespace fastrnn
