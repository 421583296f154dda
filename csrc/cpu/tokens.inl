// Sums of the rows that belong to the same token.
#pragma once

#include "vec.inl"

namespace fastrnn {
namespace {

// N vectors of columns from `column` on of one token's rows.
template <int N, class T>
FASTRNN_INLINE void sum_rows_of_token(const RowSums<T>& s, int64_t token, int64_t column) {
  typedef Vec<T> V;
  T* total = s.totals + token * s.columns + column;
  for (int64_t i = s.begins[token]; i < s.ends[token];) {
    // As in weight gradients: sums in registers of so many rows that least is rounded off.
    const int64_t stop = s.ends[token] - i < kGradientRows ? s.ends[token] : i + kGradientRows;
    V sum[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sum[v] = V(T(0));
    for (; i < stop; ++i) {
      const int64_t row = s.order[i];
      const T* from = s.rows + (row - s.first) * s.stride + column;
      const T* factors = s.factors ? s.factors + row % s.factor_rows * s.columns + column : nullptr;
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) {
        const int64_t n = s.columns - column - v * V::kWidth;
        if (n <= 0) break;
        const V value = load(from + v * V::kWidth, n);
        sum[v] = factors ? fma(value, load(factors + v * V::kWidth, n), sum[v]) : sum[v] + value;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      const int64_t n = s.columns - column - v * V::kWidth;
      if (n <= 0) break;
      T* to = total + v * V::kWidth;
      store(to, load(to, n) + sum[v], n);
    }
  }
}

template <class T>
void sum_rows(const RowSums<T>& s, int64_t begin, int64_t end) {
  constexpr int kVectors = 4;
  constexpr int64_t kWidth = Vec<T>::kWidth;
  for (int64_t token = 0; token < s.tokens; ++token) {
    if (s.begins[token] == s.ends[token]) continue;
    int64_t column = begin;
    for (; column + kVectors * kWidth <= end; column += kVectors * kWidth) {
      sum_rows_of_token<kVectors>(s, token, column);
    }
    for (; column < end; column += kWidth) sum_rows_of_token<1>(s, token, column);
  }
}

}  // namespace
}  // namespace fastrnn
