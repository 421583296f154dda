#include "kernels.h"
#include "machine.h"
#include "pack.h"
#include "plan.h"
#include "run.h"
#include "scratch.h"
#include "threads.h"

namespace fastrnn {

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

template void run_forward(Mode, LayerForward<float>, const Weights<float>&);
template void run_forward(Mode, LayerForward<double>, const Weights<double>&);

}  // namespace fastrnn
