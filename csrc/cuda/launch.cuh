// The launchers of one element type. A .cu file for each instantiates them.
#pragma once

#include "launch.h"
#include "recurrence.cuh"

namespace fastrnn::cuda {

// Calls body(Cell{}) with the cell of a mode.
template <class Body>
cudaError_t with_cell(Mode mode, const Body& body) {
  switch (mode) {
    case Mode::kLstm:
      return body(Lstm{});
    case Mode::kGru:
      return body(Gru{});
    case Mode::kRnnRelu:
      return body(Elman<Relu>{});
    default:
      return body(Elman<Tanh>{});
  }
}

template <class Pass, class LanesOf>
cudaError_t launch(const Pass& pass, const Plan& plan, int64_t steps, cudaStream_t stream) {
  const auto kernel = recurrence<Pass, LanesOf>;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(plan.shared_bytes));
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(plan.row_blocks, plan.unit_blocks);
  config.blockDim = dim3(32 * plan.warps());
  config.dynamicSmemBytes = plan.shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = plan.scope == Scope::kGrid ? 1 : 0;
  const Tiling tiling = {plan.scope, plan.rows, plan.units, plan.depth_chunk};
  const int64_t at_once = plan.scope == Scope::kLaunch ? 1 : steps;
  for (int64_t i = 0; i < steps && error == cudaSuccess; i += at_once) {
    error = cudaLaunchKernelEx(&config, kernel, pass, tiling, i, i + at_once);
  }
  return error;
}

template <class Pass>
cudaError_t launch(const Pass& pass, const Plan& plan, int64_t steps, cudaStream_t stream) {
  using E = typename Pass::Element;
  return plan.lanes == Lanes::kTile ? launch<Pass, TileLanes<E>>(pass, plan, steps, stream)
                                    : launch<Pass, DepthLanes<E>>(pass, plan, steps, stream);
}

template <class E>
cudaError_t launch_forward(Mode mode, const Forward<E>& layer, const Plan& plan,
                           cudaStream_t stream) {
  return with_cell(mode, [&](auto cell) {
    return launch(ForwardPass<decltype(cell), E>{layer}, plan, layer.timeline.T, stream);
  });
}

template <class E>
cudaError_t launch_backward(Mode mode, const Backward<E>& layer, const Plan& plan,
                            bool wants_grad_hx, cudaStream_t stream) {
  const int64_t steps = layer.timeline.T + (wants_grad_hx ? 1 : 0);
  return with_cell(mode, [&](auto cell) {
    return launch(BackwardPass<decltype(cell), E>{layer}, plan, steps, stream);
  });
}

// A block for some rows of a step.
template <class E>
__global__ void previous_states(const __grid_constant__ Forward<E> layer, E* previous) {
  const Timeline& steps = layer.timeline;
  const int64_t step = blockIdx.x, t = steps.time(step), rows = steps.rows(t);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const E* from = layer.previous(step, row);
    E* to = previous + (steps.first_row(t) + row) * layer.H;
    for (int64_t unit = threadIdx.x; unit < layer.H; unit += blockDim.x) to[unit] = from[unit];
  }
}

template <class E>
cudaError_t launch_previous(const Forward<E>& layer, E* previous, cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  const int64_t B = layer.timeline.B;
  config.gridDim = dim3(layer.timeline.T, B < 1024 ? B : 1024);
  config.blockDim = dim3(128);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, previous_states<E>, layer, previous);
}

#define FASTRNN_CUDA_LAUNCHERS(E)                                                                  \
  template cudaError_t launch_forward(Mode, const Forward<E>&, const Plan&, cudaStream_t);         \
  template cudaError_t launch_backward(Mode, const Backward<E>&, const Plan&, bool, cudaStream_t); \
  template cudaError_t launch_previous(const Forward<E>&, E*, cudaStream_t);

}  // namespace fastrnn::cuda
