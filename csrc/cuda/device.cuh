// What the kernels take of CUDA: NVIDIA's headers under nvcc, and a simulator of them, on which the
// tests run the same kernels on a CPU, under any other compiler.
//
// Kernels keep to what both know. Shared memory is dynamic and declared by FASTRNN_SHARED, so that
// the simulator can guard its end; instructions without a C++ spelling are wrapped here.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define FASTRNN_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#include "cuda_sim.h"
#endif

#include "../half.h"

namespace fastrnn::cuda {

// NVIDIA's type of an element as it is stored.
template <class E>
struct Native {
  typedef E type;
};
template <>
struct Native<Bf16> {
  typedef __nv_bfloat16 type;
};
template <>
struct Native<Half16> {
  typedef __half type;
};

// D += A (16 x 16, rows) B (16 x 8, columns): PTX ISA, mma.m16n8k16. A lane has rows lane / 4 and
// lane / 4 + 8 of A and D, column lane / 4 of B, columns 2 (lane % 4) and the next of D.
template <class E>
__device__ __forceinline__ void multiply_fragments(float (&d)[4], const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2]) {
#if !defined(__CUDACC__)
  cuda_sim::mma_m16n8k16<typename Native<E>::type>(d, a, b);
#else
  if constexpr (sizeof(E) != 2) {
    static_assert(sizeof(E) == 2, "tensor cores take half types here");
  } else if constexpr (std::is_same_v<E, Half16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
}

}  // namespace fastrnn::cuda
