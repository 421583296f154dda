// A single step: each weight is used once for each row, so packing would cost more than it gains.
// Sums run along k, over rows of the weights where they are; each has the same order whichever rows
// come with it.
#pragma once

namespace fastrnn {
namespace {

// acc[r][n] += elementwise products of a's row r and weights[n].
template <int M, int N, class T>
FASTRNN_INLINE void accumulate_rows(Vec<T> (&acc)[M][N], const T* a, int64_t a_stride,
                                    const T* (&weights)[N], int64_t K) {
  typedef Vec<T> V;
  for (int64_t k = 0; k < K; k += V::kWidth) {
    V rows[M];
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) rows[r] = load(a + r * a_stride + k, K - k);
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) {
      V w = load(weights[n] + k, K - k);
      pin_raw(w.raw);
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) acc[r][n] = fma(rows[r], w, acc[r][n]);
    }
  }
}

template <class Cell, class T>
struct SingleStepTile {
  typedef Vec<T> V;
  static constexpr int G = Cell::kGates, S = Cell::kSums;
  // Rows of the weights at a time: the gates of one unit, or of a cell with one gate four units,
  // where a block has as many.
  static constexpr int kFew = V::kWidth < 4 ? V::kWidth : 4;
  static constexpr int kUnits = G == 1 ? kFew : 1, N = G * kUnits;

  ForwardTile<Cell, T, 1, 1> tile;

  template <int M>
  void run(int64_t row) const {
    const LayerForward<T>& layer = tile.layer;
    V hidden[M][G], input[M][G];
    product<0>(hidden, layer.hx + row * layer.shape.H, layer.shape.H, layer.weight_hh,
               layer.shape.H);
    product<(2 * G - S) % G>(input, layer.input.at(tile.now.t, row), layer.input.row_stride,
                             layer.weight_ih, layer.shape.I);
    tile.template finish<0>(hidden, input, row);
  }

  // sums[r][v]: gate (v + kFirst) % G of the block's units.
  template <int kFirst, int M>
  FASTRNN_INLINE void product(V (&sums)[M][G], const T* a, int64_t a_stride, const T* matrix,
                              int64_t K) const {
    const int64_t H = tile.layer.shape.H, first = tile.block * V::kWidth;
    T lanes[M][G][V::kWidth] = {};
    for (int64_t unit = 0; unit < V::kWidth && first + unit < H; unit += kUnits) {
      const T* weights[N];
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) {
        const int64_t j = first + unit + n / G, gate = (n + kFirst) % G;
        weights[n] = matrix + (gate * H + (j < H ? j : H - 1)) * K;
      }
      V acc[M][N];
      set_zero(acc);
      accumulate_rows(acc, a, a_stride, weights, K);
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) lanes[r][n % G][unit + n / G] = sum_raw(acc[r][n].raw);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 16
      for (int g = 0; g < G; ++g) sums[r][g] = load(lanes[r][g]);
    }
  }
};

template <class Cell, class T>
void single_step(const LayerForward<T>& layer, const Part& part) {
  constexpr int64_t kWidth = Vec<T>::kWidth;
  take_states<Cell>(layer, part);
  const int64_t rows = layer.timeline.rows(0), end = part.row_end < rows ? part.row_end : rows;
  for (int64_t unit = part.unit; unit < part.unit_end; unit += kWidth) {
    const SingleStepTile<Cell, T> tile{{layer, {0, 0, -1, 0}, unit / kWidth}};
    for_row_tiles<tile_rows(SingleStepTile<Cell, T>::N)>(part.row, end, tile);
  }
  give_states(layer, part);
}

}  // namespace
}  // namespace fastrnn
