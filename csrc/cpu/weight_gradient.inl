// The weight gradient: a product whose sums run over the rows of all steps. kGradientRows of them
// are summed in registers before they are added to memory: near the root of the usual number of
// rows, where the rounding of a blocked sum is least, but twice as many where their tile of three
// vectors still fits the first-level cache, since gradients of many MiB pass through memory as
// often.
#pragma once

#include "gemm.inl"

namespace fastrnn {
namespace {

// A tile: kGradientTile rows by up to three vectors.
constexpr int kGradientTile = kAccumulators / 3;
constexpr int64_t kGradientColumns = 4 * kGradientTile;  // packed at a time

template <class T>
int64_t weight_gradient_scratch(int64_t gradient_rows, int64_t columns) {
  constexpr int64_t kWidth = Vec<Wide<T>>::kWidth;
  const int64_t totals = gradient_rows * (sizeof(double) / sizeof(T));
  const int64_t padded = (columns + kWidth - 1) / kWidth * kWidth;
  return kGradientRows * (kGradientColumns + padded) + totals;
}

// Rows this close together are read where they are; copying them would cost more than it gains.
// Rows further apart fall into few sets of the first-level cache and are packed.
constexpr int64_t kNearRowBytes = 256;

template <class T>
constexpr bool read_in_place(int64_t row_stride) {
  return kPackedElements<T> == 1 && row_stride * int64_t(sizeof(T)) <= kNearRowBytes;
}

// n <= kGradientTile elements of a row, or of each of the two rows of pairs, zeros behind them;
// second: null where there is none.
template <class T>
FASTRNN_INLINE void pack_tile(const T* first, const T* second, int64_t n, T* to) {
  if constexpr (kPackedElements<T> > 1) {
    Packed<T>* pairs = reinterpret_cast<Packed<T>*>(to);
    store(pairs, load_pairs(first, second, n), kGradientTile);
  } else if (n == kGradientTile) {
    __builtin_memcpy(to, first, kGradientTile * sizeof(T));
  } else {
    for (int64_t i = 0; i < kGradientTile; ++i) to[i] = i < n ? first[i] : T(0);
  }
}

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
    if (whole && read_in_place<T>(g.grad_stride)) return;
    constexpr int64_t kRows = kPackedElements<T>, kTile = kGradientTile * kRows;
    const int64_t filled = whole ? kGradientColumns : end - m;
    for (int64_t r = 0; r < count; r += kRows) {
      const T* first = data + r * stride;
      const T* second = r + 1 < count ? first + stride : nullptr;
      for (int64_t i = 0; i < filled; i += kGradientTile) {
        const int64_t n = filled - i < kGradientTile ? filled - i : kGradientTile;
        T* to = packed + (i / kGradientTile * packed_rows<T>(count) + r / kRows) * kTile;
        pack_tile(first + i, second ? second + i : nullptr, n, to);
      }
    }
    data = packed;
    stride = kTile;
    tile_stride = packed_rows<T>(count) * kTile;
  }

  Panel<T> tile(int64_t index) const { return {data + index * tile_stride, stride}; }
};

// totals += sums of columns [begin, end) over rows [row, row + count). In double: a bias gradient
// is one long sum, and torch's is a cascade of short ones.
template <class T>
void add_column_sums(const WeightGradient<T>& g, int64_t row, int64_t count, int64_t begin,
                     int64_t end, double* totals) {
  typedef Vec<Wide<T>> V;
  for (int64_t m = begin; m < end; m += V::kWidth) {
    const int64_t n = end - m;
    const T* source = g.grad_sums + row * g.grad_stride + m;
    V sum[4] = {0, 0, 0, 0};  // four chains hide the latency of the addition
    int64_t r = 0;
    for (; r + 4 <= count; r += 4, source += 4 * g.grad_stride) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[i] = sum[i] + load(source + i * g.grad_stride, n);
    }
    for (; r < count; ++r, source += g.grad_stride) sum[0] = sum[0] + load(source, n);
    Wide<T> lanes[V::kWidth];
    store(lanes, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int64_t i = 0; i < V::kWidth && i < n; ++i) totals[m - begin + i] += lanes[i];
  }
}

// Vectors of the next tile of columns when `left` remain: three, but no single one at the end where
// two can share it, since a narrow tile cannot fill the units that multiply.
constexpr int64_t tile_vectors(int64_t left) { return left == 4 ? 2 : left < 3 ? left : 3; }

// The operand's rows [row, row + count) as a right-hand side: where they are, or packed in panels
// of tile_vectors.
template <class T>
struct Operand {
  typedef Packed<T> P;
  static constexpr int64_t kWidth = Vec<Wide<T>>::kWidth;
  int64_t count;
  bool in_place;
  const P* data;
  int64_t stride;  // of rows in place

  Operand(const WeightGradient<T>& g, int64_t row, int64_t rows, T* scratch)
      : count(rows), stride(g.operand.row_stride) {
    const int64_t t = row / g.B, b = row % g.B;
    const bool even = g.operand.step_stride == g.B * stride || b + count <= g.B;
    in_place = even && !g.mask && g.N % kWidth == 0 && read_in_place<T>(stride);
    P* packed = reinterpret_cast<P*>(scratch);
    data = packed;
    if constexpr (kPackedElements<T> == 1) {
      if (in_place) data = g.operand.at(t, b);
    }
    for (int64_t column = 0, end; !in_place && column < g.N; column = end) {
      end = column + tile_vectors(vectors_from(g, column)) * kWidth;
      packed = pack_columns(g, t, b, column, end < g.N ? end : g.N, packed);
    }
  }

  static int64_t vectors_from(const WeightGradient<T>& g, int64_t column) {
    return (g.N - column + kWidth - 1) / kWidth;
  }

  // Rows of the operand from one on, which end with row `rows`.
  struct Rows {
    const Sequence<const T>& operand;
    int64_t B, t, b, left;
    const T* row = operand.at(t, b);

    // The next, or null.
    FASTRNN_INLINE const T* next() {
      if (left-- <= 0) return nullptr;
      const T* found = row;
      row += operand.row_stride;
      if (++b == B) row = left > 0 ? operand.at(++t, b = 0) : nullptr;
      return found;
    }
  };

  P* pack_columns(const WeightGradient<T>& g, int64_t t, int64_t b, int64_t column, int64_t end,
                  P* to) const {
    Rows rows{g.operand, g.B, t, b, count};
    const auto* mask = g.mask ? g.mask + b * g.N : nullptr;
    while (const T* row = rows.next()) {
      if constexpr (kPackedElements<T> > 1) {
        const T* second = rows.next();
        for (int64_t c = column; c < end; c += kWidth, to += kWidth) {
          store(to, load_pairs(row + c, second ? second + c : nullptr, g.N - c));
        }
      } else {
        for (int64_t c = column; c < end; c += kWidth, to += kWidth) {
          const Vec<T> values = load(row + c, g.N - c);
          store(to, mask ? values * load(mask + c, g.N - c) : values);
        }
        if (mask) mask = g.mask + rows.b * g.N;
      }
    }
    return to;
  }

  Panel<P> columns(int64_t column, int64_t vectors) const {
    if (in_place) return {data + column, stride};
    return {data + column * packed_rows<T>(count), vectors * kWidth};
  }
};

// Writes, or adds, the products of `count` rows to N vectors of columns of gradient rows m to m +
// kGradientTile.
template <int N, class T>
void add_tile(const WeightGradient<T>& g, const Panel<T>& gradient, const Panel<Packed<T>>& operand,
              int64_t count, int64_t column, int64_t m, int64_t end, bool add) {
  typedef Vec<Wide<T>> V;
  Wide<T>* rows[kGradientTile];
#pragma GCC unroll 16
  for (int i = 0; i < kGradientTile; ++i) {
    rows[i] = g.grad_weight + (m + i + g.rotation) % g.M * g.N + column;
    // All gradients together seldom fit the first-level cache: ask before the product, add after.
    if (m + i < end)
      __builtin_prefetch(rows[i], 1), __builtin_prefetch(rows[i] + N * V::kWidth - 1, 1);
  }
  V acc[kGradientTile][N];
  set_zero(acc);
  accumulate<kGradientTile, N>(acc, gradient.data, kPackedElements<T>, gradient.stride, operand,
                               packed_rows<T>(count));
#pragma GCC unroll 16
  for (int i = 0; i < kGradientTile; ++i) {
    if (m + i >= end) break;
    Wide<T>* c = rows[i];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      const int64_t n = g.N - column - v * V::kWidth;
      Wide<T>* to = c + v * V::kWidth;
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
    const Panel<Packed<T>> panel = operand.columns(column, vectors);
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
    column += vectors * Operand<T>::kWidth;
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
    Wide<T>& bias = g.grad_bias[(m + g.rotation) % g.M];
    bias = static_cast<Wide<T>>((g.add ? bias : 0) + totals[m - begin]);
  }
}

}  // namespace
}  // namespace fastrnn
