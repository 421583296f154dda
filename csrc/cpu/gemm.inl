// Register-tiled matrix products on packed panels: the one inner loop of all kernels, the product
// that backward needs, and the weight gradient.
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

// acc[r][v] += sum over k of a[r*row_stride + k*k_stride] * panel[k][v].
// Each sum runs over k in order in one accumulator: a row's bits do not depend on the tile it is
// in. Callers start from zero and add what is larger (a bias, a gradient so far) at the end: every
// partial sum is rounded to its own size, so the small terms must come first.
// With R rows to a vector, r counts vectors.
template <int M, int N, int R = 1, class T, class W>
FASTRNN_INLINE void accumulate(Vec<T> (&acc)[M][N], const T* a, int64_t row_stride,
                               int64_t k_stride, const Panel<W>& panel, int64_t K) {
  typedef Vec<T> V;
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

// Runs body.run<M>(row) over [row, end) in tiles of M vectors of R rows, then in smaller ones;
// returns the end of what was covered.
template <int M, int R = 1, class Body>
FASTRNN_INLINE int64_t for_row_tiles(int64_t row, int64_t end, const Body& body) {
  for (; row + M * R <= end; row += M * R) body.template run<M>(row);
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
  const T* panel;
  int64_t a_column, count, column;
  bool add;

  // A function of its own: where it became part of a larger one, GCC kept an accumulator in memory.
  template <int M>
  __attribute__((noinline)) void run(int64_t row) const {
    typedef Vec<T> V;
    V acc[M][N];
    set_zero(acc);
    accumulate<M, N>(acc, p.a + row * p.a_stride + a_column, p.a_stride, 1,
                     Panel<T>{panel, p.in_place ? p.N : N * V::kWidth}, count);
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) {
        const int64_t n = p.N - column - v * V::kWidth;
        T* c = p.c + (row + r) * p.c_stride + column + v * V::kWidth;
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
  constexpr int64_t kPanel = N * Vec<T>::kWidth;
  constexpr int64_t kDepth = 1024;  // a panel of this depth stays in L2 while the rows pass
  for (int64_t k = 0, count; k < p.K; k += count) {
    const int64_t a_column = (k + p.rotation) % p.K, left = p.K - (a_column > k ? a_column : k);
    count = left < kDepth ? left : kDepth;
    for (int64_t column = p.column; column < p.column_end; column += kPanel) {
      const T* panel =
          p.in_place ? p.panels + k * p.N + column : p.panels + column * p.K + k * kPanel;
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

// The weight gradient. kGradientRows rows are summed in registers before they are added to memory:
// near the root of the usual number of rows, where the rounding of a blocked sum is least, but
// twice as many where their tile of three vectors still fits the first-level cache, since gradients
// of many MiB pass through memory as often.
//
// Its tile: kGradientTile rows by up to three vectors.
constexpr int kGradientTile = kAccumulators / 3;
constexpr int64_t kGradientColumns = 4 * kGradientTile;  // packed at a time

template <class T>
int64_t weight_gradient_scratch(int64_t gradient_rows, int64_t columns) {
  const int64_t totals = gradient_rows * (sizeof(double) / sizeof(T));
  const int64_t padded = (columns + Vec<T>::kWidth - 1) / Vec<T>::kWidth * Vec<T>::kWidth;
  return kGradientRows * (kGradientColumns + padded) + totals;
}

// Rows this close together are read where they are; copying them would cost more than it gains.
// Rows further apart fall into few sets of the first-level cache and are packed.
constexpr int64_t kNearRowBytes = 256;

// Columns [m, m + kGradientColumns) of grad_sums' rows [row, row + count) as left-hand sides of
// kGradientTile columns each: where they are, or packed with zeros from column `end` on. A row's
// columns of one cache line are packed at once: rows may fall into few sets of the first-level
// cache.
template <class T>
struct GradientColumns {
  const T* data;
  int64_t stride, tile_stride;

  GradientColumns(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t m, int64_t end,
                  T* packed)
      : data(g.grad_sums + row * g.grad_stride + m),
        stride(g.grad_stride),
        tile_stride(kGradientTile) {
    const bool whole = end - m >= kGradientColumns;
    if (whole && g.grad_stride * int64_t(sizeof(T)) <= kNearRowBytes) return;
    const int64_t filled = whole ? kGradientColumns : end - m;
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t tile = 0; tile * kGradientTile < filled; ++tile) {
        const T* from = data + r * stride + tile * kGradientTile;
        T* to = packed + (tile * count + r) * kGradientTile;
        const int64_t n = filled - tile * kGradientTile;
        if (n >= kGradientTile) {
          __builtin_memcpy(to, from, kGradientTile * sizeof(T));
        } else {
          for (int64_t i = 0; i < kGradientTile; ++i) to[i] = i < n ? from[i] : T(0);
        }
      }
    }
    data = packed;
    stride = kGradientTile;
    tile_stride = count * kGradientTile;
  }

  Panel<T> tile(int64_t index) const { return {data + index * tile_stride, stride}; }
};

// totals += sums of columns [begin, end) over rows [row, row + count). In double: a bias gradient
// is one long sum, and torch's is a cascade of short ones.
template <class T>
void add_column_sums(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t begin,
                     int64_t end, double* totals) {
  for (int64_t m = begin; m < end; m += Vec<T>::kWidth) {
    const int64_t n = end - m;
    const T* source = g.grad_sums + row * g.grad_stride + m;
    Vec<T> sum[4] = {T(0), T(0), T(0), T(0)};  // four chains hide the latency of the addition
    int64_t r = 0;
    for (; r + 4 <= count; r += 4, source += 4 * g.grad_stride) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] = sum[i] + load(source + i * g.grad_stride, n);
    }
    for (; r < count; ++r, source += g.grad_stride) sum[0] = sum[0] + load(source, n);
    T lanes[Vec<T>::kWidth];
    store(lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int64_t i = 0; i < Vec<T>::kWidth && i < n; ++i) totals[m - begin + i] += lanes[i];
  }
}

// Vectors of the next tile of columns when `left` remain: three, but no single one at the end where
// two can share it, since a narrow tile cannot fill the units that multiply.
constexpr int64_t tile_vectors(int64_t left) { return left == 4 ? 2 : left < 3 ? left : 3; }

// The operand's rows [row, row + count) as a right-hand side: where they are, or packed in panels
// of tile_vectors.
template <class T>
struct Operand {
  typedef Vec<T> V;
  int64_t count;
  bool in_place;
  const T* data;
  int64_t stride;  // of rows in place

  Operand(const WeightGradient<T>& g, int64_t row, int64_t rows, T* packed)
      : count(rows), stride(g.operand.row_stride) {
    const int64_t t = row / g.B, b = row % g.B;
    const bool even = g.operand.step_stride == g.B * stride || b + count <= g.B;
    in_place = even && g.N % V::kWidth == 0 && stride * int64_t(sizeof(T)) <= kNearRowBytes;
    data = in_place ? g.operand.at(t, b) : packed;
    for (int64_t column = 0, end; !in_place && column < g.N; column = end) {
      end = column + tile_vectors(vectors_from(g, column)) * V::kWidth;
      packed = pack_columns(g, t, b, column, end < g.N ? end : g.N, packed);
    }
  }

  static int64_t vectors_from(const WeightGradient<T>& g, int64_t column) {
    return (g.N - column + V::kWidth - 1) / V::kWidth;
  }

  T* pack_columns(const WeightGradient<T>& g, int64_t t, int64_t b, int64_t column, int64_t end,
                  T* to) const {
    for (int64_t r = 0; r < count; b = 0, ++t) {
      const T* source = g.operand.at(t, b);
      for (; r < count && b < g.B; ++r, ++b, source += g.operand.row_stride) {
        for (int64_t c = column; c < end; c += V::kWidth, to += V::kWidth) {
          store(to, load(source + c, g.N - c));
        }
      }
    }
    return to;
  }

  Panel<T> columns(int64_t column, int64_t vectors) const {
    if (in_place) return {data + column, stride};
    return {data + column * count, vectors * V::kWidth};
  }
};

// Writes, or adds, the products of `count` rows to N vectors of columns of gradient rows m to m +
// kGradientTile.
template <int N, class T>
void add_tile(const WeightGradient<T>& g, const Panel<T>& gradient, const Panel<T>& operand,
              int64_t count, int64_t column, int64_t m, int64_t end, bool add) {
  typedef Vec<T> V;
  T* rows[kGradientTile];
#pragma GCC unroll 16
  for (int i = 0; i < kGradientTile; ++i) {
    rows[i] = g.grad_weight + (m + i + g.rotation) % g.M * g.N + column;
    // All gradients together seldom fit the first-level cache: ask before the product, add after.
    if (m + i < end)
      __builtin_prefetch(rows[i], 1), __builtin_prefetch(rows[i] + N * V::kWidth - 1, 1);
  }
  V acc[kGradientTile][N];
  set_zero(acc);
  accumulate<kGradientTile, N>(acc, gradient.data, 1, gradient.stride, operand, count);
#pragma GCC unroll 16
  for (int i = 0; i < kGradientTile; ++i) {
    if (m + i >= end) break;
    T* c = rows[i];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      const int64_t n = g.N - column - v * V::kWidth;
      T* to = c + v * V::kWidth;
      store(to, add ? load(to, n) + acc[i][v] : acc[i][v], n);
    }
  }
}

// Adds to gradient rows m to m + kGradientTile, all columns.
template <class T>
void add_row_tile(const WeightGradient<T>& g, const Panel<T>& gradient, const Operand<T>& operand,
                  int64_t m, int64_t end, bool add) {
  for (int64_t column = 0; column < g.N;) {
    const int64_t vectors = tile_vectors(operand.vectors_from(g, column));
    const Panel<T> panel = operand.columns(column, vectors);
    switch (vectors) {
      case 1:
        add_tile<1>(g, gradient, panel, operand.count, column, m, end, add);
        break;
      case 2:
        add_tile<2>(g, gradient, panel, operand.count, column, m, end, add);
        break;
      default:
        add_tile<3>(g, gradient, panel, operand.count, column, m, end, add);
    }
    column += vectors * Vec<T>::kWidth;
  }
}

// grad_weight += the products of rows [row, row + count), or = for the first rows of all.
template <class T>
void add_products(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t begin,
                  int64_t end, T* scratch) {
  const Operand<T> operand(g, row, count, scratch + kGradientRows * kGradientColumns);
  const bool add = g.add || row > 0;
  for (int64_t m = begin; m < end; m += kGradientColumns) {
    const GradientColumns<T> gradient(g, row, count, m, end, scratch);
    for (int64_t tile = 0; tile < 4 && m + tile * kGradientTile < end; ++tile) {
      add_row_tile(g, gradient.tile(tile), operand, m + tile * kGradientTile, end, add);
    }
  }
}

template <class T>
void weight_gradient(const WeightGradient<T>& g, int64_t begin, int64_t end) {
  double* totals = reinterpret_cast<double*>(g.scratch);
  T* scratch = g.scratch + (end - begin) * (sizeof(double) / sizeof(T));
  for (int64_t m = 0; m < end - begin; ++m) totals[m] = 0;
  for (int64_t row = 0; row < g.rows; row += kGradientRows) {
    const int64_t count = g.rows - row < kGradientRows ? g.rows - row : kGradientRows;
    if (g.grad_bias) add_column_sums(g, row, count, begin, end, totals);
    if (g.grad_weight) add_products(g, row, count, begin, end, scratch);
  }
  if (!g.grad_bias) return;
  for (int64_t m = begin; m < end; ++m) {
    T& bias = g.grad_bias[(m + g.rotation) % g.M];
    bias = static_cast<T>((g.add ? bias : T(0)) + totals[m - begin]);
  }
}

}  // namespace
}  // namespace fastrnn
