#include "forward_widened.h"
#include "kernels.h"
#include "machine.h"
#include "pack.h"
#include "plan.h"
#include "run.h"
#include "scratch.h"
#include "threads.h"

namespace fastrnn {
namespace {

template <class E, class T>
void pack(const ForwardPanels& panels, const Weights<E>& weights, T* packed) {
  const int64_t H = panels.shape.H, rows = gates(panels.mode) * H;
  const Widened<E> weight_ih(weights.weight_ih, rows * panels.shape.I);
  const Widened<E> weight_hh(weights.weight_hh, rows * H);
  pack_forward<T>(panels, weight_ih, weight_hh, packed);
  const Widened<E> bias_ih(weights.bias_ih, rows), bias_hh(weights.bias_hh, rows);
  pack_bias<T>(panels, bias_ih, bias_hh, packed + panels.weights());
}

}  // namespace

template <class E>
void run_forward(Mode mode, LayerForward<E> layer, const Weights<E>& weights) {
  typedef Wide<E> T;
  const Plan plan = plan_layer(mode, layer.shape, sizeof(T), current_machine());
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const ForwardPanels panels{mode, layer.shape, kernels.width, plan.vectors_per_gate,
                             plan.rows_per_vector};
  const Scratch<T> packed(panels.weights() + panels.biases());
  pack<E, T>(panels, weights, packed);
  layer.weights = packed;
  layer.bias = packed + panels.weights();
  layer.row_block = plan.row_block;
  layer.vectors_per_gate = plan.vectors_per_gate;
  layer.rows_per_vector = plan.rows_per_vector;
  const auto forward = kernels.forward[static_cast<int64_t>(mode)];
  parallel_for(layer.shape.B, plan.rows_per_thread, [&](int64_t begin, int64_t end) {
    if constexpr (kOnlyStored<E>) {
      forward_widened(mode, forward, layer, begin, end);
    } else {
      forward(layer, begin, end);
    }
  });
}

template void run_forward(Mode, LayerForward<float>, const Weights<float>&);
template void run_forward(Mode, LayerForward<double>, const Weights<double>&);
template void run_forward(Mode, LayerForward<Bf16>, const Weights<Bf16>&);
template void run_forward(Mode, LayerForward<Half16>, const Weights<Half16>&);

}  // namespace fastrnn
