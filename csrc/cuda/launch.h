// What runs on the GPU, asynchronously on a stream; no torch. Each returns the first error, which
// cudaGetErrorString names.
#pragma once

#include <cuda_runtime_api.h>

#include "layer.h"
#include "plan.h"

namespace fastrnn::cuda {

// All steps of a layer; with `save`'d reserve where there is an array for it.
template <class E>
cudaError_t launch_forward(Mode mode, const Forward<E>& layer, const Plan& plan,
                           cudaStream_t stream);

// All steps; and, if asked, grad_h and grad_c through the first one, else they are not of use.
template <class E>
cudaError_t launch_backward(Mode mode, const Backward<E>& layer, const Plan& plan,
                            bool wants_grad_hx, cudaStream_t stream);

// The h that each row of each time came from: previous (H) for each row.
template <class E>
cudaError_t launch_previous(const Forward<E>& layer, E* previous, cudaStream_t stream);

}  // namespace fastrnn::cuda
