// Launches as cuda_runtime.h of nvcc has them; the rest of the runtime's functions that launchers
// call are declared by cuda_runtime_api.h and defined in runtime/device.cpp.
#pragma once

#include <cuda_runtime_api.h>

#include <tuple>
#include <utility>

namespace cuda_sim {

// Runs thread(arguments) in every thread of the grid.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(void*),
                   void* arguments);

}  // namespace cuda_sim

template <class... Expected, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Expected...),
                               Actual&&... arguments) {
  struct Call {
    void (*kernel)(Expected...);
    std::tuple<Expected...> arguments;
  } call{kernel, std::tuple<Expected...>(static_cast<Expected>(arguments)...)};
  const auto thread = [](void* of) {
    Call* call = static_cast<Call*>(of);
    std::apply(call->kernel, call->arguments);
  };
  return cuda_sim::launch(*config, reinterpret_cast<const void*>(kernel), thread, &call);
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel* kernel, int threads,
                                                          size_t shared_bytes) {
  return ::cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      blocks, reinterpret_cast<const void*>(kernel), threads, shared_bytes);
}
