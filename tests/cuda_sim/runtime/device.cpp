// The functions of the CUDA runtime that launchers call, for one device with one stream that does
// everything at once.
#include "device.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace cuda_sim {
namespace {

constexpr int kThreadsPerMultiprocessor = 2048, kBlocksPerMultiprocessor = 32;
constexpr int kSharedUnasked = 48 << 10;  // what a kernel may use without asking
constexpr int kSharedReserved = 1 << 10;  // of each block

std::unordered_map<const void*, int> shared_asked;
cudaError_t last_error = cudaSuccess;
std::string last_message;

}  // namespace

Device device;

int Device::shared_allowed(const void* kernel) const {
  const auto asked = shared_asked.find(kernel);
  return asked == shared_asked.end() ? kSharedUnasked : std::max(kSharedUnasked, asked->second);
}

int Device::blocks_at_once(int threads, size_t shared_bytes) const {
  if (threads < 1 || threads > 1024) return 0;
  const int by_threads = kThreadsPerMultiprocessor / ((threads + 31) / 32 * 32);
  const int by_shared =
      shared_per_multiprocessor / (static_cast<int>(shared_bytes) + kSharedReserved);
  return std::min({by_threads, by_shared, kBlocksPerMultiprocessor});
}

cudaError_t set_error(cudaError_t error, const std::string& message) {
  last_message = message;
  return last_error = error;
}

void clear_error() { last_message.clear(); }

}  // namespace cuda_sim

using cuda_sim::device;

extern "C" {

// What follows runs on a device with these limits.
void cuda_sim_device(int multiprocessors, int shared_per_block, int shared_per_multiprocessor,
                     int compute_capability) {
  device = {multiprocessors, shared_per_block, shared_per_multiprocessor, compute_capability};
}

// Why the last launch or call failed, empty if it did not.
const char* cuda_sim_error() { return cuda_sim::last_message.c_str(); }

cudaError_t cudaGetLastError() {
  const cudaError_t error = cuda_sim::last_error;
  cuda_sim::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() { return cuda_sim::last_error; }

const char* cudaGetErrorString(cudaError_t error) {
  static std::string text;
  if (error == cudaSuccess) return "no error";
  text = "simulated CUDA error " + std::to_string(error);
  if (error == cuda_sim::last_error) text += ": " + cuda_sim::last_message;
  return text.c_str();
}

cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = device.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = cuda_sim::kSharedUnasked;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = device.shared_per_block;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = device.shared_per_multiprocessor;
      return cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = cuda_sim::kSharedReserved;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = cuda_sim::kThreadsPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = cuda_sim::kBlocksPerMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = device.compute_capability / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = device.compute_capability % 10;
      return cudaSuccess;
    default:
      return cuda_sim::set_error(cudaErrorInvalidValue, "the simulator lacks device attribute " +
                                                            std::to_string(attribute));
  }
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return cuda_sim::set_error(cudaErrorInvalidValue, "the simulator lacks function attribute " +
                                                          std::to_string(attribute));
  }
  if (value < 0 || value > device.shared_per_block) {
    return cuda_sim::set_error(cudaErrorInvalidValue,
                               "a block cannot have " + std::to_string(value) +
                                   " bytes of shared memory; the device allows " +
                                   std::to_string(device.shared_per_block));
  }
  cuda_sim::shared_asked[kernel] = value;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel,
                                                          int threads, size_t shared_bytes) {
  const bool fits = shared_bytes <= static_cast<size_t>(device.shared_allowed(kernel));
  *blocks = fits ? device.blocks_at_once(threads, shared_bytes) : 0;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}

}  // extern "C"
