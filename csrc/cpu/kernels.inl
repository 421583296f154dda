// All kernels of one instruction set, and a table of them per dtype. Included last by a
// kernels_*.cpp, by itself or through all_kernels.inl; nothing here or below may include a standard
// header, whose inline functions would be compiled for this target and could be the copy that the
// linker keeps for every caller.
#pragma once

#include "activations.inl"
#include "fingerprint.inl"
#include "group.inl"
#include "vec.inl"

// cells.h comes after the target pragma too: its functions must match Vec's target to be inlined.
#include "../cells.h"
#include "backward.inl"
#include "gemm.inl"
#include "peak.inl"
#include "recurrence.inl"
#include "single_step.inl"
#include "tokens.inl"
#include "weight_gradient.inl"

namespace fastrnn {
namespace {

// y = function of every x; memory behind n elements is not touched.
template <class T, class Function>
FASTRNN_INLINE void map(const T* x, T* y, int64_t n, Function function) {
  constexpr int64_t kWidth = Vec<T>::kWidth;
  typedef Group<Vec<T>, kGroup> G;
  int64_t i = 0;
  for (; i + kGroup * kWidth <= n; i += kGroup * kWidth) {
    G group;
#pragma GCC unroll 8
    for (int k = 0; k < kGroup; ++k) group.v[k] = load(x + i + k * kWidth);
    group = function(group);
#pragma GCC unroll 8
    for (int k = 0; k < kGroup; ++k) store(y + i + k * kWidth, group.v[k]);
  }
  for (; i < n; i += kWidth) store(y + i, function(load(x + i, n - i)), n - i);
}

template <class T>
void sigmoid_array(const T* x, T* y, int64_t n) {
  map(x, y, n, [](auto v) __attribute__((always_inline)) { return sigmoid(v); });
}

template <class T>
void tanh_array(const T* x, T* y, int64_t n) {
  map(x, y, n, [](auto v) __attribute__((always_inline)) { return tanh(v); });
}

template <class T>
constexpr KernelTable<T> make_table() {
  KernelTable<T> table = {
      Vec<Wide<T>>::kWidth,
      kGradientTile,
      {forward<Elman<Tanh>, T>, forward<Elman<Relu>, T>, forward<Lstm, T>, forward<Gru, T>},
      {backward<Elman<Tanh>, T>, backward<Elman<Relu>, T>, backward<Lstm, T>, backward<Gru, T>},
      {single_step<Elman<Tanh>, T>, single_step<Elman<Relu>, T>, single_step<Lstm, T>,
       single_step<Gru, T>},
      product<T>,
      weight_gradient<T>,
      weight_gradient_scratch<T>,
      fma_loop<T>};
  if constexpr (!kOnlyStored<T>) {
    table.sum_rows = sum_rows<T>;
    table.sigmoid = sigmoid_array<T>;
    table.tanh = tanh_array<T>;
  }
  return table;
}

}  // namespace
}  // namespace fastrnn
