// A thread's place in block and grid, its barriers, and its block's shared memory.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace cuda_sim {

using Location = std::source_location;

struct Place {
  uint3 thread, block;
  dim3 block_size, grid_size;
  unsigned index;  // of the thread in its block

  unsigned lane() const { return index % 32; }
};

// The thread that runs; null in host code.
extern const Place* current;

void sync_block(const Location& where);
void sync_grid(const Location& where);
void sync_warp(unsigned mask, const Location& where);
unsigned char* shared_memory();
// Ends the launch with cudaErrorLaunchFailure.
[[noreturn]] void fail(const char* what, const Location& where);

// Objects instead of macros, so that config.gridDim remains a member's name.
template <class Read>
struct Index {
  struct X {
    operator unsigned() const { return Read()(*current).x; }
  } x;
  struct Y {
    operator unsigned() const { return Read()(*current).y; }
  } y;
  struct Z {
    operator unsigned() const { return Read()(*current).z; }
  } z;
};

struct ReadThread {
  uint3 operator()(const Place& place) const { return place.thread; }
};
struct ReadBlock {
  uint3 operator()(const Place& place) const { return place.block; }
};
struct ReadBlockSize {
  dim3 operator()(const Place& place) const { return place.block_size; }
};
struct ReadGridSize {
  dim3 operator()(const Place& place) const { return place.grid_size; }
};

}  // namespace cuda_sim

inline constexpr cuda_sim::Index<cuda_sim::ReadThread> threadIdx{};
inline constexpr cuda_sim::Index<cuda_sim::ReadBlock> blockIdx{};
inline constexpr cuda_sim::Index<cuda_sim::ReadBlockSize> blockDim{};
inline constexpr cuda_sim::Index<cuda_sim::ReadGridSize> gridDim{};

#define FASTRNN_SHARED(name) unsigned char* const name = ::cuda_sim::shared_memory()

inline void __syncthreads(const cuda_sim::Location& where = cuda_sim::Location::current()) {
  cuda_sim::sync_block(where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       const cuda_sim::Location& where = cuda_sim::Location::current()) {
  cuda_sim::sync_warp(mask, where);
}

namespace cooperative_groups {

struct grid_group {
  void sync(const cuda_sim::Location& where = cuda_sim::Location::current()) const {
    cuda_sim::sync_grid(where);
  }
};

inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
