#include "run.h"

#include <algorithm>

#include "kernels.h"
#include "machine.h"
#include "pack.h"
#include "plan.h"
#include "scratch.h"
#include "threads.h"

namespace fastrnn {
namespace {

// One backward pass, after the recurrence: what the gradients of the sums give.
template <class T>
struct SumGradients {
  const KernelTable<T>& kernels;
  Mode mode;
  Shape shape;
  const T* grad_sums;  // (T, B, S, H)

  int64_t stride() const { return sums(mode) * shape.H; }
  int64_t columns() const { return gates(mode) * shape.H; }
  const T* of_hidden() const { return grad_sums + (sums(mode) - gates(mode)) * shape.H; }
  // Sum row 0 of the input product is this row of weight_ih.
  int64_t input_rotation() const { return input_gate(mode, 0) * shape.H; }

  void to_input(const Plan& plan, const T* weight_ih, T* grad_input) const {
    const auto [T_, B, I, H] = shape;
    const ColumnPanels panels{columns(), I, plan.input_panel * kernels.width};
    const Scratch<T> packed(panels.elements());
    pack_columns<T>(panels, weight_ih, packed);
    // In the order of weight_ih: GRU's large gradients, those of n, are added last.
    const int64_t rotation = columns() - input_rotation();
    const Product<T> product{grad_sums,  stride(), rotation,  packed, plan.input_panel,
                             grad_input, I,        columns(), I,      false};
    parallel_for(T_ * B, T_ * plan.rows_per_thread, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row += kProductRows) {
        kernels.product(product, row, std::min(end, row + kProductRows));
      }
    });
  }

  void to_input_weights(const Sequence<const T>& input, T* grad_weight, T* grad_bias) const {
    to_weights({grad_sums, stride(), input, shape.B, shape.T * shape.B, columns(), shape.I,
                input_rotation(), grad_weight, grad_bias, nullptr});
  }

  // h_prev is hx at the first step and the output of the step before at all others.
  void to_hidden_weights(const LayerBackward<T>& layer, T* grad_weight, T* grad_bias) const {
    const auto [T_, B, I, H] = shape;
    const int64_t first = layer.direction.time(0), rest = layer.direction.reverse ? 0 : 1;
    const Sequence<const T> hx{layer.hx, B * H, H};
    const Sequence<const T> outputs{layer.output + (1 - rest) * B * H, B * H, H};
    to_weights({of_hidden() + first * B * stride(), stride(), hx, B, B, columns(), H, 0,
                grad_weight, grad_bias, nullptr});
    to_weights({of_hidden() + rest * B * stride(), stride(), outputs, B, (T_ - 1) * B, columns(), H,
                0, grad_weight, grad_bias, nullptr});
  }

 private:
  static constexpr int64_t kProductRows =
      96;  // rows of the gradient that stay in L2 for all panels

  // Threads share the rows of the gradient, not those of the sum: each element is one thread's.
  void to_weights(const WeightGradient<T>& gradient) const {
    if (gradient.rows == 0) return;
    const int64_t tile = kernels.gradient_rows, tiles = (gradient.M + tile - 1) / tile;
    const int64_t flop_per_tile = 2 * gradient.rows * gradient.N * tile;
    const int64_t grain =
        std::max<int64_t>(1, kGradientFlopPerThread / std::max<int64_t>(flop_per_tile, 1));
    parallel_for(tiles, grain, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * tile, last = std::min(end * tile, gradient.M);
      const Scratch<T> scratch(kernels.weight_gradient_scratch(last - first, gradient.N));
      WeightGradient<T> part = gradient;
      part.scratch = scratch;
      kernels.weight_gradient(part, first, last);
    });
  }

  static constexpr int64_t kGradientFlopPerThread = 2'500'000;
};

}  // namespace

template <class T>
void run_forward(Mode mode, LayerForward<T> layer, const Weights<T>& weights) {
  const Plan plan = plan_layer(mode, layer.shape, sizeof(T), current_machine());
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const ForwardPanels panels{mode, layer.shape, kernels.width, plan.vectors_per_gate,
                             plan.rows_per_vector};
  const Scratch<T> packed(panels.weights() + panels.biases());
  pack_forward<T>(panels, weights.weight_ih, weights.weight_hh, packed);
  pack_bias<T>(panels, weights.bias_ih, weights.bias_hh, packed + panels.weights());
  layer.weights = packed;
  layer.bias = packed + panels.weights();
  layer.row_block = plan.row_block;
  layer.vectors_per_gate = plan.vectors_per_gate;
  layer.rows_per_vector = plan.rows_per_vector;
  const auto forward = kernels.forward[static_cast<int64_t>(mode)];
  parallel_for(layer.shape.B, plan.rows_per_thread,
               [&](int64_t begin, int64_t end) { forward(layer, begin, end); });
}

template <class T>
void run_backward(Mode mode, LayerBackward<T> layer, const Sequence<const T>& input,
                  const Weights<T>& weights, const Gradients<T>& gradients) {
  const auto [T_, B, I, H] = layer.shape;
  const Plan plan = plan_layer(mode, layer.shape, sizeof(T), current_machine());
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const Scratch<T> grad_sums(T_ * B * sums(mode) * H);
  {
    const ColumnPanels panels{gates(mode) * H, H, plan.hidden_panel * kernels.width};
    const Scratch<T> packed(panels.elements());
    pack_columns<T>(panels, weights.weight_hh, packed);
    layer.weights = packed;
    layer.row_block = plan.row_block;
    layer.rows_per_vector = plan.rows_per_vector;
    layer.panel_vectors = plan.hidden_panel;
    layer.grad_sums = grad_sums;
    const auto backward = kernels.backward[static_cast<int64_t>(mode)];
    parallel_for(B, plan.rows_per_thread,
                 [&](int64_t begin, int64_t end) { backward(layer, begin, end); });
  }
  const SumGradients<T> sum_gradients{kernels, mode, layer.shape, grad_sums};
  if (gradients.input) sum_gradients.to_input(plan, weights.weight_ih, gradients.input);
  if (gradients.weight_ih || gradients.bias_ih) {
    sum_gradients.to_input_weights(input, gradients.weight_ih, gradients.bias_ih);
  }
  // Where both products feed the same sums, so do both biases.
  const bool same_bias = gradients.bias_ih && gradients.bias_hh && gates(mode) == sums(mode);
  if (same_bias) std::copy_n(gradients.bias_ih, gates(mode) * H, gradients.bias_hh);
  if (gradients.weight_hh || (gradients.bias_hh && !same_bias)) {
    sum_gradients.to_hidden_weights(layer, gradients.weight_hh,
                                    same_bias ? nullptr : gradients.bias_hh);
  }
}

template void run_forward(Mode, LayerForward<float>, const Weights<float>&);
template void run_forward(Mode, LayerForward<double>, const Weights<double>&);
template void run_backward(Mode, LayerBackward<float>, const Sequence<const float>&,
                           const Weights<float>&, const Gradients<float>&);
template void run_backward(Mode, LayerBackward<double>, const Sequence<const double>&,
                           const Weights<double>&, const Gradients<double>&);

}  // namespace fastrnn
