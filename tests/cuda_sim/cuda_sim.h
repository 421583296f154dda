// CUDA for a CPU: kernels include this instead of the headers of nvcc, are compiled by any C++20
// compiler on NVIDIA's own headers of types, and run on fibers, one for each thread of the GPU.
//
// What it checks, and how threads take turns: runtime/. What it cannot show: the GPU's memory
// model beyond barriers, approximate functions, instructions without a C++ spelling, and speed.
#pragma once

#if defined(__CUDACC__)
#error "cuda_sim.h is for compilers without CUDA"
#endif

#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include <vector_functions.h>

// NVIDIA's headers make attributes of these, which other compilers warn about. __shared__ stays
// undefined: shared memory is declared by FASTRNN_SHARED alone, so that its end can be guarded.
#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_sim_launch.h"
#include "cuda_sim_memory.h"
#include "cuda_sim_thread.h"
#include "cuda_sim_warp.h"
