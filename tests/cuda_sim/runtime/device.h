// The GPU that is simulated, and the last error.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace cuda_sim {

struct Device {
  int multiprocessors = 16;
  int shared_per_block = 227 << 10;  // at most, for a kernel that asks for it
  int shared_per_multiprocessor = 228 << 10;
  int compute_capability = 90;

  int shared_allowed(const void* kernel) const;
  int blocks_at_once(int threads, size_t shared_bytes) const;  // on a multiprocessor
};

extern Device device;

// Returns the error, which cudaGetLastError then has and cuda_sim_error explains.
cudaError_t set_error(cudaError_t error, const std::string& message);
void clear_error();

}  // namespace cuda_sim
