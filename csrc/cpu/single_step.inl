// A single step: each weight is used once for each row, so packing would cost more than it gains.
// Sums run along k, over rows of the weights where they are; each has the same order whichever rows
// come with it.
#pragma once

namespace fastrnn {
namespace {

// acc[r][n] += elementwise products of a's row r and weights[n].
template <int M, int N, class T>
FASTRNN_INLINE void accumulate_rows(Vec<Wide<T>> (&acc)[M][N], const T* a, int64_t a_stride,
                                    const T* const (&weights)[N], int64_t K) {
  typedef Vec<Packed<T>> V;
  constexpr int64_t kElements = V::kWidth * kPackedElements<T>;
  const auto add = [&](int64_t k, int64_t n) __attribute__((always_inline)) {
    V rows[M];
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) rows[r] = load_packed(a + r * a_stride + k, n);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      V w = load_packed(weights[i] + k, n);
      pin_raw(w.raw);
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) acc[r][i] = fma(rows[r], w, acc[r][i]);
    }
  };
  int64_t k = 0;
  for (; k + kElements <= K; k += kElements) add(k, kElements);
  if (k < K) add(k, K - k);
}

// Products of rows by N rows of weights. A row of sums has a vector for each of G gates; those of
// weights n go to gate n % G, lane n / G.
template <class T, int N, int G>
struct DotTile {
  const T* a;
  int64_t a_stride;
  const T* (&weights)[N];
  int64_t K;
  Wide<T>* sums;

  template <int M>
  FASTRNN_INLINE void run(int64_t row) const {
    typedef Vec<Wide<T>> V;
    V acc[M][N];
    set_zero(acc);
    accumulate_rows(acc, a + row * a_stride, a_stride, weights, K);
    Wide<T>* to = sums + row * G * V::kWidth;
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        to[(r * G + n % G) * V::kWidth + n / G] = sum_raw(acc[r][n].raw);
      }
    }
  }
};

// The step of one block of units. Some rows at a time stay in the first-level cache while the
// weights of the block pass, and each weight that is loaded multiplies all rows of a tile.
template <class Cell, class T>
struct SingleStepBlock {
  typedef Vec<Wide<T>> V;
  static constexpr int G = Cell::kGates, S = Cell::kSums;
  // Rows of the weights at a time: the gates of one unit, or of a cell with one gate four units,
  // where a block has as many.
  static constexpr int kFew = V::kWidth < 4 ? V::kWidth : 4;
  static constexpr int kUnits = G == 1 ? kFew : 1, N = G * kUnits;
  static constexpr int kTileRows = tile_rows(N), kRows = 4 * kTileRows;

  ForwardTile<Cell, T, 1, 1> tile;

  // Sums of the rows from `first` on: [row][gate][unit].
  struct Finish {
    const SingleStepBlock& block;
    const Wide<T>*hidden, *input;
    int64_t first;

    template <int M>
    void run(int64_t row) const {
      V sums[2][M][G];
#pragma GCC unroll 16
      for (int i = 0; i < M * G; ++i) {
        const int64_t at = ((row - first) * G + i) * V::kWidth;
        sums[0][i / G][i % G] = load(hidden + at);
        sums[1][i / G][i % G] = load(input + at);
      }
      typedef typename ForwardTile<Cell, T, 1, 1>::template Sums<M> Sums;
      block.tile.template finish<0>(sums[0], Sums{sums[1]}, row);
    }
  };

  void rows(int64_t row, int64_t end) const {
    const LayerForward<T>& layer = tile.layer;
    const auto [T_, B, I, H] = layer.shape;
    alignas(kVectorBytes) Wide<T> hidden[kRows * G * V::kWidth], input[kRows * G * V::kWidth];
    for (int64_t next; row < end; row = next) {
      next = end - row < kRows ? end : row + kRows;
      product<0>(hidden, layer.hx + row * H, H, next - row, layer.weight_hh, H);
      product<(2 * G - S) % G>(input, layer.input.at(tile.now.t, row), layer.input.row_stride,
                               next - row, layer.weight_ih, I);
      for_row_tiles<kTileRows>(row, next, Finish{*this, hidden, input, row});
    }
  }

  // Gate g of the sums: (g + kFirst) % G of the matrix.
  template <int kFirst>
  FASTRNN_INLINE void product(Wide<T>* sums, const T* a, int64_t a_stride, int64_t count,
                              const T* matrix, int64_t K) const {
    const int64_t H = tile.layer.shape.H, first = tile.block * V::kWidth;
    if (first + V::kWidth > H) {
      for (int64_t i = 0; i < count * G; ++i) store(sums + i * V::kWidth, V(Wide<T>(0)));
    }
    for (int64_t unit = 0; unit < V::kWidth && first + unit < H; unit += kUnits) {
      const T* weights[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        const int64_t j = first + unit + n / G, gate = (n + kFirst) % G;
        weights[n] = matrix + (gate * H + (j < H ? j : H - 1)) * K;
      }
      const DotTile<T, N, G> tile{a, a_stride, weights, K, sums + unit};
      for_row_tiles<kTileRows>(0, count, tile);
    }
  }
};

template <class Cell, class T>
void single_step(const LayerForward<T>& layer, const Part& part) {
  constexpr int64_t kWidth = Vec<Wide<T>>::kWidth;
  const int64_t end = part.rows_end(layer.timeline, 0);
  for (int64_t unit = part.unit; unit < part.unit_end; unit += kWidth) {
    const SingleStepBlock<Cell, T> block{{layer, {0, 0, -1, 0}, unit / kWidth}};
    block.rows(part.row, end);
  }
  give_states(layer, part);
}

}  // namespace
}  // namespace fastrnn
