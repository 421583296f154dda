// What a file of kernels for one instruction set offers: a table of function pointers per dtype.
// Kernels know nothing of torch, allocate nothing and start no threads: each works on a range that
// its caller hands to one thread, and results do not depend on how the whole was cut into ranges.
#pragma once

#include "../layer.h"

namespace fastrnn {

// Columns [column, column_end) of c (rows, N) = or += a (rows, K) times a matrix (K, N): packed
// panels (pack_columns), or the matrix itself, whose N must then be a multiple of a panel's
// columns.
template <class T>
struct Product {
  const T* a;
  int64_t a_stride;
  int64_t rotation;  // panel row k multiplies column (k + rotation) % K of a
  const Packed<T>* panels;
  bool in_place;
  int64_t panel_vectors;
  Wide<T>* c;
  int64_t c_stride, K, N;
  int64_t column, column_end;  // begin at a panel
  bool accumulate;
  const Wide<T>* mask =
      nullptr;  // multiplies the product; as c, without gaps between rows, or null
};

// grad_weight (M, N) = or += grad_sums^T (M, rows) times operand (rows, N), grad_bias (M) = or +=
// column sums.
template <class T>
struct WeightGradient {
  const T* grad_sums;  // (rows, M)
  int64_t grad_stride;
  Sequence<const T> operand;  // (steps, B, N), rows = steps * B
  int64_t B, rows, M, N;
  const Wide<T>* mask;   // (B, N), times the operand of each step; or null, as of half types
  int64_t rotation;      // sum row m is row (m + rotation) % M of the gradients
  Wide<T>* grad_weight;  // (M, N), or null
  Wide<T>* grad_bias;    // (M), or null
  bool add;              // to what they hold; else they are written
  T* scratch;            // weight_gradient_scratch elements, of this thread
};

// totals (tokens, columns) += the sums of each token's rows, which are order[begins[token]] to
// order[ends[token]], counted from `first` on; each times its factors.
template <class T>
struct RowSums {
  const T* rows;  // (last - first, columns), `stride` apart
  int64_t stride, first, columns, tokens;
  const int32_t *order, *begins, *ends;
  const T* factors;  // (factor_rows, columns), row % factor_rows for each row; null: one
  int64_t factor_rows;
  T* totals;
};

template <class T>
struct KernelTable {
  int64_t width;          // lanes of a vector of sums
  int64_t gradient_rows;  // weight_gradient ranges begin at multiples of this
  // All steps. Units of a part begin at a block of forward's, at a panel of backward's.
  void (*forward[kModes])(const LayerForward<T>&, const Part&);
  void (*backward[kModes])(const LayerBackward<T>&, const Part&);
  // The one step of a layer with T = 1, without packed weights.
  void (*single_step[kModes])(const LayerForward<T>&, const Part&);
  // Rows [begin, end) of c.
  void (*product)(const Product<T>&, int64_t begin, int64_t end);
  // Rows [begin, end) of the gradient, counted before rotation.
  void (*weight_gradient)(const WeightGradient<T>&, int64_t begin, int64_t end);
  int64_t (*weight_gradient_scratch)(int64_t gradient_rows, int64_t columns);
  // Multiply-adds on registers; returns the operations done. Begins with *value and changes it.
  int64_t (*fma_loop)(int64_t rounds, float* value);
  // Those below are null for bfloat16.
  // Columns [begin, end) of the totals; begin at a vector.
  void (*sum_rows)(const RowSums<T>&, int64_t begin, int64_t end);
  // Element-wise sigmoid and tanh, so that tests can measure their error.
  void (*sigmoid)(const T* x, T* y, int64_t n);
  void (*tanh)(const T* x, T* y, int64_t n);
};

// Between float32 and a type that is only stored. NaN stays NaN; narrowing rounds to nearest, ties
// to even. Neither is subject to the flushing of subnormal numbers (threads.h).
template <class E>
struct Conversion {
  // Rows of n elements, from_stride apart, to rows side by side.
  void (*widen)(const E* from, int64_t from_stride, int64_t rows, int64_t n, float* to);
  void (*narrow)(const float* from, int64_t n, E* to);
};

struct Kernels {
  const char* isa;
  KernelTable<float> f32;
  KernelTable<double> f64;
  // Products of bfloat16; null: it is widened to float32 first.
  const KernelTable<Bf16>* bf16_products;
  // Of `bytes` at data; seed: that of what comes before it, or 0.
  uint64_t (*fingerprint)(const void* data, int64_t bytes, uint64_t seed);
  Conversion<Bf16> bf16;
  Conversion<Half16> f16;

  template <class T>
  const KernelTable<T>& table() const;
  template <class E>
  const Conversion<E>& conversion() const;
};

template <>
inline const KernelTable<float>& Kernels::table<float>() const {
  return f32;
}
template <>
inline const KernelTable<double>& Kernels::table<double>() const {
  return f64;
}
template <>
inline const KernelTable<Bf16>& Kernels::table<Bf16>() const {
  return *bf16_products;
}
template <>
inline const Conversion<Bf16>& Kernels::conversion<Bf16>() const {
  return bf16;
}
template <>
inline const Conversion<Half16>& Kernels::conversion<Half16>() const {
  return f16;
}

// Null where this build has no such code.
extern const Kernels* const kBaselineKernels;
extern const Kernels* const kAvx2Kernels;
extern const Kernels* const kAvx512Kernels;
extern const KernelTable<Bf16>* const kAvx512Bf16Products;

}  // namespace fastrnn
