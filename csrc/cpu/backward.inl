// The recurrence backward: the cell's derivative of one step, then one product.
#pragma once

#include "recurrence.inl"

namespace fastrnn {
namespace {

// The cell's derivative at one time; grad_h and grad_c turn from those of the new state to those of
// the previous one, less what flows through the hidden product.
template <class Cell, class T>
struct BackwardStep {
  typedef Vec<Wide<T>> V;
  static constexpr int S = Cell::kSums, K = Cell::kSaved;

  const LayerBackward<T>& layer;
  Moment at;
  T* grad_sums;  // (S, H) for each row of this time
  int64_t base;  // where the first row of the steps is among all rows

  const T* h_prev(int64_t row) const {
    const bool begins = at.previous < 0;
    return (begins ? layer.hx : layer.output) + (begins ? row : at.previous + row) * layer.features;
  }

  template <int R>
  void rows(int64_t row, int64_t unit, int64_t unit_end) const {
    const int64_t H = layer.shape.H, now = at.first + row, before = at.previous + row;
    const bool begins = at.previous < 0;
    const bool projects = layer.projection;
    for (int64_t j = unit; j < unit_end; j += V::kWidth) {
      const int64_t n = H - j;
      V saved[K + 1], state[Cell::kStates], grad_state[Cell::kStates], grad_sum[S];
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        saved[k] = load_rows<R>(layer.reserve + (now * K + k) * H + j, K * H, n);
      }
      const Wide<T>* grad_h = projects ? layer.grad_unprojected : layer.grad_h;
      grad_state[0] = load_rows<R>(grad_h + row * H + j, H, n);
      if (layer.grad_output.data && !projects) {
        const T* grad_output = layer.grad_output.at(at.t, row) + j;
        grad_state[0] = grad_state[0] + load_rows<R>(grad_output, layer.grad_output.row_stride, n);
      }
      if constexpr (Cell::kStates > 1) {
        // c is the last of what forward saved.
        const T* c_prev = begins ? layer.cx + row * H : layer.reserve + (before * K + K - 1) * H;
        state[1] = load_rows<R>(c_prev + j, begins ? H : K * H, n);
        grad_state[1] = load_rows<R>(layer.grad_c + row * H + j, H, n);
        if (projects) {
          T* hidden = layer.unprojected + (now - base) * H + j;
          store_rows<R>(hidden, H, Cell::hidden(saved), n);
        }
      }
      V h = V(Wide<T>(0));
      if constexpr (Cell::kStates == 1) {
        state[0] = load_rows<R>(h_prev(row) + j, H, n);
        h = load_rows<R>(layer.output + now * H + j, H, n);
      }
      Cell::backward(saved, state, h, grad_state, grad_sum);
      if (!projects) store_rows<R>(layer.grad_h + row * H + j, H, grad_state[0], n);
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

// From the gradient of one time's projected h, whose rows begin at `first` of the steps, to that of
// the cells' h; grad_h begins anew.
template <class T>
void unproject_step(const LayerBackward<T>& layer, int64_t t, int64_t first, const Part& part) {
  const int64_t H = layer.shape.H, P = layer.features, end = part.rows_end(layer.timeline, t);
  T* grads = layer.grad_projected + first * P;
  for (int64_t row = part.row; row < end; ++row) {
    T* grad_h = layer.grad_h + row * P;
    const T* grad_output = layer.grad_output.data ? layer.grad_output.at(t, row) : nullptr;
    for (int64_t j = 0; j < P; ++j) {
      grads[row * P + j] = grad_output ? grad_h[j] + grad_output[j] : grad_h[j];
      grad_h[j] = 0;
    }
  }
  product(Product<T>{grads, P, 0, layer.projection, false, layer.projection_panel,
                     layer.grad_unprojected, H, P, H, 0, H, false},
          part.row, end);
}

template <class Cell, class T>
void backward_rows(const LayerBackward<T>& layer, const Part& part) {
  constexpr int64_t G = Cell::kGates, S = Cell::kSums;
  const int64_t H = layer.shape.H, P = layer.features;
  const Timeline& timeline = layer.timeline;
  const int64_t base = timeline.first_row(timeline.first_time(layer.begin, layer.end));
  for (int64_t step = layer.end - 1; step >= layer.begin; --step) {
    const int64_t t = timeline.time(step), first = timeline.first_row(t);
    T* grad_sums = layer.grad_sums + (first - base) * S * H;
    if constexpr (kProjects<Cell, T>) {
      if (layer.projection) unproject_step(layer, t, first - base, part);
    }
    for_row_kinds(timeline, step, part, [&](int64_t previous, int64_t row, int64_t row_end) {
      const BackwardStep<Cell, T> cell{layer, {t, first, previous, 0}, grad_sums, base};
      if constexpr (kRowPairs) {
        if (layer.rows_per_vector == 2) {
          for (; row + 2 <= row_end; row += 2) {
            cell.template rows<2>(row, part.unit, part.unit_end);
          }
        }
      }
      for (; row < row_end; ++row) cell.template rows<1>(row, part.unit, part.unit_end);
    });
    // The product reads what all threads of these rows wrote, and gives what the next step of this
    // thread alone reads.
    if (part.meet) part.meet(part.member);
    if (step == 0 && !layer.wants_grad_hx) return;
    product(Product<T>{grad_sums + (S - G) * H, S * H, 0, layer.weights, layer.in_place,
                       layer.panel_vectors, layer.grad_h, P, G * H, P, part.unit,
                       part.unit_end < P ? part.unit_end : P, true, layer.mask},
            part.row, part.rows_end(timeline, t));
  }
}

template <class Cell, class T>
void backward(const LayerBackward<T>& layer, const Part& part) {
  for_row_blocks(layer, part, backward_rows<Cell, T>);
}

}  // namespace
}  // namespace fastrnn
