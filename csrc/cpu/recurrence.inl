// The recurrences. Forward: both matrix products and the cell of a tile of rows by a block of
// hidden units stay in registers. Backward: the cell's derivative of one step, then one product.
#pragma once

namespace fastrnn {
namespace {

// One step of one block of hidden units: U vectors of units, R rows to a vector.
template <class Cell, class T, int U, int R>
struct ForwardTile {
  typedef Vec<T> V;
  static constexpr int G = Cell::kGates, S = Cell::kSums, K = Cell::kSaved;

  const LayerForward<T>& layer;
  int64_t t, previous, unit;  // previous: the time whose output is h_prev, or -1 for hx
  const T *weights, *bias;    // of this block

  template <int M>
  void run(int64_t row) const {
    constexpr int64_t kPanel = G * U * V::kWidth;
    const auto [_, B, I, H] = layer.shape;
    const T* h_prev = (previous < 0 ? layer.hx : layer.output + previous * B * H) + row * H;
    const T* x = layer.input.at(t, row);
    V sum[M][S * U];
    set_zero(sum);
    accumulate<M, G * U, (S - G) * U, R>(sum, h_prev, H, 1, {weights, kPanel}, H);
    accumulate<M, G * U, 0, R>(sum, x, layer.input.row_stride, 1, {weights + H * kPanel, kPanel},
                               I);
    finish<0>(sum, row);
  }

  // The cell of vectors [first, M * U) of the tile, a group at a time; vector i is of row i / U.
  template <int first, int M>
  FASTRNN_INLINE void finish(const V (&sum)[M][S * U], int64_t row) const {
    constexpr int kLeft = M * U - first;
    if constexpr (kLeft > 0) {
      constexpr int N = kLeft < kGroup ? kLeft : kGroup;
      Group<V, N> sums[S];
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          const int r = (first + i) / U, u = (first + i) % U;
          sums[s].v[i] = sum[r][s * U + u] + load(bias + (s * U + u) * V::kWidth);
        }
      }
      cells<first>(sums, row);
      finish<first + N>(sum, row);
    }
  }

  template <int first, int N>
  FASTRNN_INLINE void cells(const Group<V, N>* sums, int64_t row) const {
    const auto [_, B, I, H] = layer.shape;
    const T* h_prev = previous < 0 ? layer.hx : layer.output + previous * B * H;
    Group<V, N> state[Cell::kStates], saved[K + 1];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const int64_t b = row + (first + i) / U * R, j = unit + (first + i) % U * V::kWidth;
      if (U > 1 && j >= H) continue;  // a panel may be wider than what is left of the units
      state[0].v[i] = load_rows<R>(h_prev + b * H + j, H, H - j);
      if constexpr (Cell::kStates > 1) {
        state[1].v[i] = load_rows<R>(layer.c_n + b * H + j, H, H - j);
      }
    }
    Cell::forward(sums, state, saved);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const int64_t b = row + (first + i) / U * R, j = unit + (first + i) % U * V::kWidth;
      if (U > 1 && j >= H) continue;
      store_rows<R>(layer.output + (t * B + b) * H + j, H, state[0].v[i], H - j);
      if constexpr (Cell::kStates > 1) {
        store_rows<R>(layer.c_n + b * H + j, H, state[1].v[i], H - j);
      }
      if (K > 0 && layer.reserve) {
        T* reserve = layer.reserve + (t * B + b) * K * H + j;
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) store_rows<R>(reserve + k * H, K * H, saved[k].v[i], H - j);
      }
    }
  }
};

// One step of one block, for rows [begin, end); a last row without partner takes half a vector.
template <class Cell, class T, int U, int R>
void forward_block(const LayerForward<T>& layer, int64_t t, int64_t previous, int64_t block,
                   int64_t begin, int64_t end) {
  constexpr int64_t kLanes = U * Vec<T>::kWidth;
  const T* weights =
      layer.weights + block * (layer.shape.I + layer.shape.H) * Cell::kGates * kLanes;
  const T* bias = layer.bias + block * Cell::kSums * kLanes;
  constexpr int kRows = tile_rows(Cell::kSums * U);
  const ForwardTile<Cell, T, U, R> tile{layer, t, previous, block * kLanes / R, weights, bias};
  begin = for_row_tiles<kRows, R>(begin, end, tile);
  if constexpr (R > 1) {
    const ForwardTile<Cell, T, U, 1> single{layer, t, previous, block * kLanes / R, weights, bias};
    for_row_tiles<1>(begin, end, single);
  }
}

template <class Cell, class T, int U, int R>
void forward_rows(const LayerForward<T>& layer, int64_t begin, int64_t end) {
  const auto [steps, B, I, H] = layer.shape;
  const int64_t bytes = (end - begin) * H * sizeof(T);
  if constexpr (Cell::kStates > 1) {
    __builtin_memcpy(layer.c_n + begin * H, layer.cx + begin * H, bytes);
  }
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t t = layer.direction.time(step);
    const int64_t previous = step > 0 ? layer.direction.time(step - 1) : -1;
    for (int64_t block = 0; block * U * Vec<T>::kWidth < H * R; ++block) {
      forward_block<Cell, T, U, R>(layer, t, previous, block, begin, end);
    }
  }
  const T* last = layer.output + layer.direction.time(steps - 1) * B * H;
  __builtin_memcpy(layer.h_n + begin * H, last + begin * H, bytes);
}

// Rows in blocks: each block runs through all steps while the weights stay in cache.
template <class Layer, class Rows>
FASTRNN_INLINE void for_row_blocks(const Layer& layer, int64_t begin, int64_t end, Rows rows) {
  for (int64_t row = begin; row < end; row += layer.row_block) {
    rows(layer, row, end - row < layer.row_block ? end : row + layer.row_block);
  }
}

template <class Cell, class T>
void forward(const LayerForward<T>& layer, int64_t begin, int64_t end) {
  if constexpr (kRowPairs) {
    if (layer.rows_per_vector == 2) {
      return for_row_blocks(layer, begin, end, forward_rows<Cell, T, 1, 2>);
    }
  }
  if constexpr (Cell::kGates == 1) {  // wide panels for many units; gated cells are wide already
    if (layer.vectors_per_gate == 4) {
      return for_row_blocks(layer, begin, end, forward_rows<Cell, T, 4, 1>);
    }
    if (layer.vectors_per_gate == 2) {
      return for_row_blocks(layer, begin, end, forward_rows<Cell, T, 2, 1>);
    }
  }
  for_row_blocks(layer, begin, end, forward_rows<Cell, T, 1, 1>);
}

// The cell's derivative at one time; grad_h and grad_c turn from those of the new state to those of
// the previous one, less what flows through the hidden product.
template <class Cell, class T>
struct BackwardStep {
  typedef Vec<T> V;
  static constexpr int S = Cell::kSums, K = Cell::kSaved;

  const LayerBackward<T>& layer;
  int64_t t, previous;  // previous: the time before in the direction's order, or -1
  T* grad_sums;         // (B, S, H) of this time

  template <int R>
  void rows(int64_t row) const {
    const int64_t B = layer.shape.B, H = layer.shape.H;
    const int64_t now = t * B + row, before = previous * B + row;
    const T* h_prev = previous < 0 ? layer.hx + row * H : layer.output + before * H;
    for (int64_t j = 0; j < H; j += V::kWidth) {
      const int64_t n = H - j;
      V saved[K + 1], state[Cell::kStates], grad_state[Cell::kStates], grad_sum[S];
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        saved[k] = load_rows<R>(layer.reserve + (now * K + k) * H + j, K * H, n);
      }
      state[0] = load_rows<R>(h_prev + j, H, n);
      grad_state[0] = load_rows<R>(layer.grad_h + row * H + j, H, n);
      if (layer.grad_output.data) {
        const T* grad_output = layer.grad_output.at(t, row) + j;
        grad_state[0] = grad_state[0] + load_rows<R>(grad_output, layer.grad_output.row_stride, n);
      }
      if constexpr (Cell::kStates > 1) {
        // c is the last of what forward saved.
        const T* c_prev =
            previous < 0 ? layer.cx + row * H : layer.reserve + (before * K + K - 1) * H;
        state[1] = load_rows<R>(c_prev + j, previous < 0 ? H : K * H, n);
        grad_state[1] = load_rows<R>(layer.grad_c + row * H + j, H, n);
      }
      const V h = load_rows<R>(layer.output + now * H + j, H, n);
      Cell::backward(saved, state, h, grad_state, grad_sum);
      store_rows<R>(layer.grad_h + row * H + j, H, grad_state[0], n);
      if constexpr (Cell::kStates > 1) {
        store_rows<R>(layer.grad_c + row * H + j, H, grad_state[1], n);
      }
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) {
        store_rows<R>(grad_sums + (row * S + s) * H + j, S * H, grad_sum[s], n);
      }
    }
  }
};

template <class Cell, class T>
void backward_rows(const LayerBackward<T>& layer, int64_t begin, int64_t end) {
  constexpr int64_t G = Cell::kGates, S = Cell::kSums;
  const int64_t B = layer.shape.B, H = layer.shape.H;
  const int64_t first_time = layer.direction.first_time(layer.begin, layer.end);
  for (int64_t step = layer.end - 1; step >= layer.begin; --step) {
    const int64_t t = layer.direction.time(step);
    const int64_t previous = step > 0 ? layer.direction.time(step - 1) : -1;
    T* grad_sums = layer.grad_sums + (t - first_time) * B * S * H;
    const BackwardStep<Cell, T> cell{layer, t, previous, grad_sums};
    int64_t row = begin;
    if constexpr (kRowPairs) {
      if (layer.rows_per_vector == 2) {
        for (; row + 2 <= end; row += 2) cell.template rows<2>(row);
      }
    }
    for (; row < end; ++row) cell.template rows<1>(row);
    product(Product<T>{grad_sums + (S - G) * H, S * H, 0, layer.weights, layer.panel_vectors,
                       layer.grad_h, H, G * H, H, true},
            begin, end);
  }
}

template <class Cell, class T>
void backward(const LayerBackward<T>& layer, int64_t begin, int64_t end) {
  for_row_blocks(layer, begin, end, backward_rows<Cell, T>);
}

}  // namespace
}  // namespace fastrnn
