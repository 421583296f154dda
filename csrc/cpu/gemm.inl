// Register-tiled matrix products on packed panels: the one inner loop of all kernels, and the
// product that backward needs.
#pragma once

#include "half.inl"

namespace fastrnn {
namespace {

// Where row k of N vectors of a right-hand side begins: data + k * stride.
template <class W>
struct Panel {
  const W* data;
  int64_t stride;
};

// Vector v of a panel's row; of bfloat16: half.inl.
template <class T>
FASTRNN_INLINE Vec<T> load_vector(const T* row, int v) {
  return load(row + v * Vec<T>::kWidth);
}

// acc[r][v] += sum over k of a[r*row_stride + k*k_stride] * panel[k][v]; of bfloat16, k counts
// pairs. Each sum runs over k in order in one accumulator: a row's bits do not depend on the tile
// it is in. Callers start from zero and add what is larger (a bias, a gradient so far) at the end:
// every partial sum is rounded to its own size, so the small terms must come first. With R rows to
// a vector, r counts vectors.
template <int M, int N, int R = 1, class T, class W>
FASTRNN_INLINE void accumulate(Vec<Wide<T>> (&acc)[M][N], const T* a, int64_t row_stride,
                               int64_t k_stride, const Panel<W>& panel, int64_t K) {
  typedef Vec<Packed<T>> V;
  const W* weights = panel.data;
  for (int64_t k = 0; k < K; ++k, a += k_stride, weights += panel.stride) {
    if constexpr (M < N) {  // whichever is fewer stays in registers: tiles fill the register file
      V rows[M];
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) rows[r] = broadcast_rows<R>(a + r * R * row_stride, row_stride);
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        V w = load_vector(weights, v);
        pin_raw(w.raw);
#pragma GCC unroll 16
        for (int r = 0; r < M; ++r) acc[r][v] = fma(rows[r], w, acc[r][v]);
      }
    } else {
      V w[N];
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        // A panel larger than L1 streams from L2 for every tile; asking early gained 3 %.
        __builtin_prefetch(weights + 16 * panel.stride + v * V::kWidth);
        w[v] = load_vector(weights, v);
        pin_raw(w[v].raw);
      }
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) {
        const V row = broadcast_rows<R>(a + r * R * row_stride, row_stride);
#pragma GCC unroll 16
        for (int v = 0; v < N; ++v) acc[r][v] = fma(row, w[v], acc[r][v]);
      }
    }
  }
}

template <int M, int N, class T>
FASTRNN_INLINE void set_zero(Vec<T> (&acc)[M][N]) {
#pragma GCC unroll 16
  for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) acc[r][v] = Vec<T>(T(0));
  }
}

// acc[r][v] += the products of rows of K elements, row_stride apart, and the panel's.
template <int M, int N, int R = 1, class T, class W>
FASTRNN_INLINE void multiply_rows(Vec<Wide<T>> (&acc)[M][N], const T* rows, int64_t row_stride,
                                  const Panel<W>& panel, int64_t K) {
  constexpr int64_t kStep = kPackedElements<T>;
  accumulate<M, N, R>(acc, rows, row_stride, kStep, panel, K / kStep);
  if constexpr (kStep > 1) {
    if (K % kStep == 0) return;
    T last[M * R][kStep] = {};  // behind the end of a row is another one, or nothing
#pragma GCC unroll 16
    for (int r = 0; r < M * R; ++r) last[r][0] = rows[r * row_stride + K - 1];
    const Panel<W> rest{panel.data + K / kStep * panel.stride, panel.stride};
    accumulate<M, N, R>(acc, last[0], kStep, kStep, rest, 1);
  }
}

// A single row's product waits for its weights; the units that multiply do another one meanwhile.
// acc as above, of one row of K elements and a panel; beside[r] += the products of rows of `depth`
// elements, row_stride apart, and a panel of one vector. Neither is of pairs.
template <int N, class T, class W>
FASTRNN_INLINE void multiply_beside(Vec<T> (&acc)[1][N], const T* row, const Panel<W>& panel,
                                    int64_t K, Vec<T> (&beside)[N][1], const T* rows,
                                    int64_t row_stride, const Panel<T>& column, int64_t depth) {
  const int64_t both = K < depth ? K : depth;
  const W* weights = panel.data;
  const T* column_weights = column.data;
  for (int64_t k = 0; k < both; ++k, weights += panel.stride, column_weights += column.stride) {
    const Vec<T> one = broadcast_rows<1>(row + k, 0);
    Vec<T> w = load_vector(column_weights, 0);
    pin_raw(w.raw);
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      acc[0][v] = fma(one, load_vector(weights, v), acc[0][v]);
      beside[v][0] = fma(broadcast_rows<1>(rows + v * row_stride + k, 0), w, beside[v][0]);
    }
  }
  accumulate<1, N>(acc, row + both, 0, 1, Panel<W>{weights, panel.stride}, K - both);
  accumulate<N, 1>(beside, rows + both, row_stride, 1, Panel<T>{column_weights, column.stride},
                   depth - both);
}

// Runs body.run<M>(row) over [row, end) in tiles of M vectors of R rows, then in smaller ones;
// returns the end of what was covered. kEven: the last eight are two tiles of four, not of six and
// of two, which would wait for weights from L2.
template <int M, int R = 1, bool kEven = true, class Body>
FASTRNN_INLINE int64_t for_row_tiles(int64_t row, int64_t end, const Body& body) {
  constexpr int64_t kSplit = kEven && M == 6 ? 8 * R : 0;
  for (; row + M * R <= end && end - row != kSplit; row += M * R) body.template run<M>(row);
  if constexpr (M > 1) {
    return for_row_tiles<(M > 8 ? 8 : M > 4 ? 4 : M > 2 ? 2 : 1), R>(row, end, body);
  }
  return row;
}

// Rows of a tile of `vectors` accumulators a row; beyond 12 rows nothing is gained.
constexpr int tile_rows(int vectors) {
  return kAccumulators / vectors < 12 ? kAccumulators / vectors : 12;
}

template <class T, int N>
struct ProductTile {
  const Product<T>& p;
  const Packed<T>* panel;
  int64_t a_column, count, column;
  bool add;

  // A function of its own: where it became part of a larger one, GCC kept an accumulator in memory.
  template <int M>
  __attribute__((noinline)) void run(int64_t row) const {
    typedef Vec<Wide<T>> V;
    V acc[M][N];
    set_zero(acc);
    multiply_rows<M, N>(acc, p.a + row * p.a_stride + a_column, p.a_stride,
                        Panel<Packed<T>>{panel, p.in_place ? p.N : N * V::kWidth}, count);
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        const int64_t n = p.N - column - v * V::kWidth;
        Wide<T>* c = p.c + (row + r) * p.c_stride + column + v * V::kWidth;
        if (n <= 0) continue;
        V value = acc[r][v];
        if (p.mask) value = value * load(p.mask + (row + r) * p.N + column + v * V::kWidth, n);
        store(c, add ? load(c, n) + value : value, n);
      }
    }
  }
};

template <int N, class T>
void product_panels(const Product<T>& p, int64_t begin, int64_t end) {
  constexpr int64_t kPanel = N * Vec<Wide<T>>::kWidth;
  // A panel of so many rows stays in L2 while the rows of a pass.
  constexpr int64_t kDepth = 1024 * kPackedElements<T>;
  for (int64_t k = 0, count; k < p.K; k += count) {
    const int64_t a_column = (k + p.rotation) % p.K, left = p.K - (a_column > k ? a_column : k);
    count = left < kDepth ? left : kDepth;
    for (int64_t column = p.column; column < p.column_end; column += kPanel) {
      const Packed<T>* panel =
          p.in_place ? p.panels + k * p.N + column
                     : p.panels + column * packed_rows<T>(p.K) + k / kPackedElements<T> * kPanel;
      const ProductTile<T, N> tile{p, panel, a_column, count, column, p.accumulate || k > 0};
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

}  // namespace
}  // namespace fastrnn
