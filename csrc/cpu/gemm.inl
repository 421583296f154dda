// Register-tiled matrix products on packed panels: the one inner loop of all kernels, the product that
// backward needs, and the weight gradient.
#pragma once

namespace fastrnn {
namespace {

// acc[r][kFirst + v] += sum over k of a[r*row_stride + k*k_stride] * panel[k][v].
// Each sum runs over k in order in one accumulator: a row's bits do not depend on the tile it is in.
template <int M, int N, int kFirst = 0, class T, int kTotal>
FASTRNN_INLINE void accumulate(Vec<T> (&acc)[M][kTotal], const T* a, int64_t row_stride,
                               int64_t k_stride, const T* panel, int64_t K) {
  typedef Vec<T> V;
  for (int64_t k = 0; k < K; ++k, a += k_stride, panel += N * V::kWidth) {
    if constexpr (M < N) {  // whichever is fewer stays in registers: tiles fill the register file
      V rows[M];
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) rows[r] = V(a[r * row_stride]);
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        V w = load(panel + v * V::kWidth);
        pin_raw(w.raw);
#pragma GCC unroll 16
        for (int r = 0; r < M; ++r) acc[r][kFirst + v] = fma(rows[r], w, acc[r][kFirst + v]);
      }
    } else {
      V w[N];
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        w[v] = load(panel + v * V::kWidth);
        pin_raw(w[v].raw);
      }
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) {
        const V row(a[r * row_stride]);
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) acc[r][kFirst + v] = fma(row, w[v], acc[r][kFirst + v]);
      }
    }
  }
}

// Runs body.run<M>(row) over [row, end) in tiles of M rows, then in smaller ones.
template <int M, class Body>
FASTRNN_INLINE void for_row_tiles(int64_t row, int64_t end, const Body& body) {
  for (; row + M <= end; row += M) body.template run<M>(row);
  if constexpr (M > 1) for_row_tiles<(M > 8 ? 8 : M > 4 ? 4 : M > 2 ? 2 : 1)>(row, end, body);
}

// Rows of a tile of `vectors` accumulators a row; beyond 12 rows nothing is gained.
constexpr int tile_rows(int vectors) {
  return kAccumulators / vectors < 12 ? kAccumulators / vectors : 12;
}

template <class T, int N>
struct ProductTile {
  const Product<T>& p;
  const T* panel;
  int64_t k_begin, k_count, column;
  bool add;

  template <int M>
  void run(int64_t row) const {
    typedef Vec<T> V;
    V acc[M][N];
    T* c = p.c + row * p.c_stride + column;
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        const int64_t n = p.N - column - v * V::kWidth;
        acc[r][v] = add && n > 0 ? load(c + r * p.c_stride + v * V::kWidth, n) : V(T(0));
      }
    }
    accumulate<M, N>(acc, p.a + row * p.a_stride + k_begin, p.a_stride, 1, panel, k_count);
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        const int64_t n = p.N - column - v * V::kWidth;
        if (n > 0) store(c + r * p.c_stride + v * V::kWidth, acc[r][v], n);
      }
    }
  }
};

template <int N, class T>
void product_panels(const Product<T>& p, int64_t begin, int64_t end) {
  constexpr int64_t kPanel = N * Vec<T>::kWidth;
  constexpr int64_t kDepth = 1024;  // a panel of this depth stays in L2 while the rows pass
  for (int64_t k = 0; k < p.K; k += kDepth) {
    const int64_t k_count = p.K - k < kDepth ? p.K - k : kDepth;
    for (int64_t column = 0; column < p.N; column += kPanel) {
      const T* panel = p.panels + column * p.K + k * kPanel;
      const ProductTile<T, N> tile{p, panel, k, k_count, column, p.accumulate || k > 0};
      for_row_tiles<tile_rows(N)>(begin, end, tile);
    }
  }
}

template <class T>
void product(const Product<T>& p, int64_t begin, int64_t end) {
  switch (p.panel_vectors) {
    case 1:
      return product_panels<1>(p, begin, end);
    case 2:
      return product_panels<2>(p, begin, end);
    default:
      return product_panels<4>(p, begin, end);
  }
}

// The weight gradient's tile: kGradientTile rows by up to three vectors.
constexpr int kGradientTile = kAccumulators / 3;

template <class T>
int64_t weight_gradient_scratch(int64_t gradient_rows) {
  const int64_t padded = (gradient_rows + kGradientTile - 1) / kGradientTile * kGradientTile;
  return kGradientRows * (padded + 3 * Vec<T>::kWidth);
}

// Columns [begin, end) of rows [row, row + count) as panels [column block][row][kGradientTile].
template <class T>
void pack_gradient(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t begin, int64_t end,
                   T* packed) {
  for (int64_t m = begin; m < end; m += kGradientTile) {
    const int64_t n = end - m < kGradientTile ? end - m : kGradientTile;
    const T* source = g.grad_sums + row * g.grad_stride + m;
    for (int64_t r = 0; r < count; ++r, source += g.grad_stride, packed += kGradientTile) {
      if (n == kGradientTile) {
        __builtin_memcpy(packed, source, kGradientTile * sizeof(T));
      } else {
        for (int64_t i = 0; i < kGradientTile; ++i) packed[i] = i < n ? source[i] : T(0);
      }
    }
  }
}

// grad_bias += sums of columns [begin, end) over rows [row, row + count).
template <class T>
void add_column_sums(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t begin,
                     int64_t end) {
  for (int64_t m = begin; m < end; m += Vec<T>::kWidth) {
    const int64_t n = end - m;
    const T* source = g.grad_sums + row * g.grad_stride + m;
    Vec<T> sum[4] = {T(0), T(0), T(0), T(0)};  // four chains hide the latency of the addition
    for (int64_t r = 0; r < count; ++r) sum[r % 4] = sum[r % 4] + load(source + r * g.grad_stride, n);
    T lanes[Vec<T>::kWidth];
    store(lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int64_t i = 0; i < Vec<T>::kWidth && i < n; ++i) {
      g.grad_bias[(m + i + g.rotation) % g.M] += lanes[i];
    }
  }
}

// `vectors` vectors of the operand's columns from `column` on, for rows [row, row + count).
template <class T>
void pack_operand(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t column,
                  int64_t vectors, T* packed) {
  typedef Vec<T> V;
  int64_t t = row / g.B, b = row % g.B;
  for (int64_t r = 0; r < count; ++r) {
    const T* source = g.operand.at(t, b) + column;
    for (int64_t v = 0; v < vectors; ++v, packed += V::kWidth) {
      store(packed, load(source + v * V::kWidth, g.N - column - v * V::kWidth));
    }
    if (++b == g.B) b = 0, ++t;
  }
}

template <class T, int N>
void gradient_panel(const WeightGradient<T>& g, const T* gradient, const T* operand, int64_t count,
                    int64_t column, int64_t begin, int64_t end) {
  typedef Vec<T> V;
  for (int64_t m = begin; m < end; m += kGradientTile, gradient += count * kGradientTile) {
    V acc[kGradientTile][N];
#pragma GCC unroll 16
    for (int i = 0; i < kGradientTile; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) acc[i][v] = V(T(0));
    }
    accumulate<kGradientTile, N>(acc, gradient, 1, kGradientTile, operand, count);
#pragma GCC unroll 16
    for (int i = 0; i < kGradientTile; ++i) {
      if (m + i >= end) break;
      T* c = g.grad_weight + (m + i + g.rotation) % g.M * g.N + column;
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        const int64_t n = g.N - column - v * V::kWidth;
        store(c + v * V::kWidth, load(c + v * V::kWidth, n) + acc[i][v], n);
      }
    }
  }
}

template <class T>
void weight_gradient(const WeightGradient<T>& g, int64_t begin, int64_t end) {
  typedef Vec<T> V;
  T* operand = g.scratch;
  T* gradient = g.scratch + kGradientRows * 3 * V::kWidth;
  for (int64_t row = 0; row < g.rows; row += kGradientRows) {
    const int64_t count = g.rows - row < kGradientRows ? g.rows - row : kGradientRows;
    if (g.grad_bias) add_column_sums(g, row, count, begin, end);
    if (!g.grad_weight) continue;
    pack_gradient(g, row, count, begin, end, gradient);
    for (int64_t column = 0; column < g.N;) {
      const int64_t left = (g.N - column + V::kWidth - 1) / V::kWidth;
      const int64_t vectors = left < 3 ? left : 3;
      pack_operand(g, row, count, column, vectors, operand);
      if (vectors == 1) gradient_panel<T, 1>(g, gradient, operand, count, column, begin, end);
      if (vectors == 2) gradient_panel<T, 2>(g, gradient, operand, count, column, begin, end);
      if (vectors == 3) gradient_panel<T, 3>(g, gradient, operand, count, column, begin, end);
      column += vectors * V::kWidth;
    }
  }
}

}  // namespace
}  // namespace fastrnn
