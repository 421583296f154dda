// The recurrences. Forward: both matrix products and the cell of a tile of rows by a block of
// hidden units stay in registers. Backward: the cell's derivative of one step, then one product.
#pragma once

namespace fastrnn {
namespace {

// One step of one block of hidden units; U vectors of units in the block.
template <class Cell, class T, int U>
struct ForwardTile {
  const LayerForward<T>& layer;
  int64_t t, previous, unit;  // previous: the time whose output is h_prev, or -1 for hx
  const T *weights, *bias;    // of this block

  template <int M>
  void run(int64_t row) const {
    typedef Vec<T> V;
    constexpr int G = Cell::kGates, S = Cell::kSums;
    const auto [_, B, I, H] = layer.shape;
    V sum[M][S * U];
    set_zero(sum);
    const T* h_prev = (previous < 0 ? layer.hx : layer.output + previous * B * H) + row * H;
    constexpr int64_t kPanel = G * U * V::kWidth;
    accumulate<M, G * U, (S - G) * U>(sum, h_prev, H, 1, {weights, kPanel}, H);
    accumulate<M, G * U>(sum, layer.input.at(t, row), layer.input.row_stride, 1,
                         {weights + H * kPanel, kPanel}, I);
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
#pragma GCC unroll 4
      for (int u = 0; u < U; ++u) {
        const int64_t j = unit + u * V::kWidth;
        if (j < H) finish(sum[r] + u, row + r, j, h_prev + r * H + j);
      }
    }
  }

  FASTRNN_INLINE const T* bias_of(int s, int64_t j) const {
    return bias + s * U * Vec<T>::kWidth + (j - unit);
  }

  // The cell of one vector of units: its sums stand U apart.
  FASTRNN_INLINE void finish(const Vec<T>* sums, int64_t row, int64_t j, const T* h_prev) const {
    typedef Vec<T> V;
    constexpr int S = Cell::kSums, K = Cell::kSaved;
    const int64_t B = layer.shape.B, H = layer.shape.H, n = H - j;
    V sum[S], state[Cell::kStates], saved[K + 1];
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) sum[s] = sums[s * U] + load(bias_of(s, j));
    state[0] = load(h_prev, n);
    if constexpr (Cell::kStates > 1) state[1] = load(layer.c_n + row * H + j, n);
    Cell::forward(sum, state, saved);
    store(layer.output + (t * B + row) * H + j, state[0], n);
    if constexpr (Cell::kStates > 1) store(layer.c_n + row * H + j, state[1], n);
    if (K > 0 && layer.reserve) {
      T* reserve = layer.reserve + (t * B + row) * K * H + j;
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) store(reserve + k * H, saved[k], n);
    }
  }
};

template <class Cell, class T, int U>
void forward_rows(const LayerForward<T>& layer, int64_t begin, int64_t end) {
  constexpr int64_t kWidth = Vec<T>::kWidth, kBlock = U * kWidth;
  const auto [T_, B, I, H] = layer.shape;
  const int64_t panel = (I + H) * Cell::kGates * kBlock;
  if constexpr (Cell::kStates > 1) {
    __builtin_memcpy(layer.c_n + begin * H, layer.cx + begin * H, (end - begin) * H * sizeof(T));
  }
  for (int64_t step = 0; step < T_; ++step) {
    const int64_t t = layer.direction.time(step);
    const int64_t previous = step > 0 ? layer.direction.time(step - 1) : -1;
    for (int64_t block = 0; block * kBlock < H; ++block) {
      const ForwardTile<Cell, T, U> tile{layer,
                                         t,
                                         previous,
                                         block * kBlock,
                                         layer.weights + block * panel,
                                         layer.bias + block * Cell::kSums * kBlock};
      for_row_tiles<tile_rows(Cell::kSums * U)>(begin, end, tile);
    }
  }
  const T* last = layer.output + layer.direction.time(T_ - 1) * B * H;
  __builtin_memcpy(layer.h_n + begin * H, last + begin * H, (end - begin) * H * sizeof(T));
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
  if constexpr (Cell::kGates == 1) {  // narrow panels for few units; gated cells are wide already
    if (layer.vectors_per_gate == 4) {
      return for_row_blocks(layer, begin, end, forward_rows<Cell, T, 4>);
    }
    if (layer.vectors_per_gate == 2) {
      return for_row_blocks(layer, begin, end, forward_rows<Cell, T, 2>);
    }
  }
  for_row_blocks(layer, begin, end, forward_rows<Cell, T, 1>);
}

// The cell's derivative at time t; grad_h and grad_c turn from those of the new state to those of
// the previous one, less what flows through the hidden product.
template <class Cell, class T>
void backward_cell(const LayerBackward<T>& layer, int64_t t, int64_t previous, int64_t begin,
                   int64_t end) {
  typedef Vec<T> V;
  constexpr int S = Cell::kSums, K = Cell::kSaved;
  const int64_t B = layer.shape.B, H = layer.shape.H;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t now = t * B + row, before = previous * B + row;
    const T* reserve = layer.reserve + now * K * H;
    const T* h_prev = previous < 0 ? layer.hx + row * H : layer.output + before * H;
    const T* grad_output = layer.grad_output.data ? layer.grad_output.at(t, row) : nullptr;
    for (int64_t j = 0; j < H; j += V::kWidth) {
      const int64_t n = H - j;
      V saved[K + 1], state[Cell::kStates], grad_state[Cell::kStates], grad_sum[S];
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) saved[k] = load(reserve + k * H + j, n);
      state[0] = load(h_prev + j, n);
      grad_state[0] = load(layer.grad_h + row * H + j, n);
      if (grad_output) grad_state[0] = grad_state[0] + load(grad_output + j, n);
      if constexpr (Cell::kStates > 1) {
        const T* c_prev =
            previous < 0 ? layer.cx + row * H : layer.reserve + before * K * H + (K - 1) * H;
        state[1] = load(c_prev + j, n);
        grad_state[1] = load(layer.grad_c + row * H + j, n);
      }
      Cell::backward(saved, state, load(layer.output + now * H + j, n), grad_state, grad_sum);
      store(layer.grad_h + row * H + j, grad_state[0], n);
      if constexpr (Cell::kStates > 1) store(layer.grad_c + row * H + j, grad_state[1], n);
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) store(layer.grad_sums + (now * S + s) * H + j, grad_sum[s], n);
    }
  }
}

template <class Cell, class T>
void backward_rows(const LayerBackward<T>& layer, int64_t begin, int64_t end) {
  constexpr int64_t G = Cell::kGates, S = Cell::kSums;
  const int64_t B = layer.shape.B, H = layer.shape.H;
  for (int64_t step = layer.shape.T - 1; step >= 0; --step) {
    const int64_t t = layer.direction.time(step);
    backward_cell<Cell>(layer, t, step > 0 ? layer.direction.time(step - 1) : -1, begin, end);
    const T* grad_hidden = layer.grad_sums + t * B * S * H + (S - G) * H;
    product(Product<T>{grad_hidden, S * H, 0, layer.weights, layer.panel_vectors, layer.grad_h, H,
                       G * H, H, true},
            begin, end);
  }
}

template <class Cell, class T>
void backward(const LayerBackward<T>& layer, int64_t begin, int64_t end) {
  for_row_blocks(layer, begin, end, backward_rows<Cell, T>);
}

}  // namespace
}  // namespace fastrnn
