// What the 32 threads of a warp do together: shuffles, and products on tensor cores.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "cuda_sim_thread.h"

namespace cuda_sim {

enum class WarpOp { kSync, kShuffle, kShuffleUp, kShuffleDown, kShuffleXor, kMma };

// A lane's elements of both operands of mma.m16n8k16, widened.
struct Fragments {
  float a[8], b[4];
};

uint64_t shuffle(unsigned mask, uint64_t value, unsigned source, WarpOp op, const Location& where);
// Those of all lanes, which stay until this lane's next call.
const Fragments* gather(const Fragments& own, const Location& where);

template <class T>
T shuffled(unsigned mask, T value, unsigned source, WarpOp op, const Location& where) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = shuffle(mask, bits, source, op, where);
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Lanes of a segment of `width` lanes: `source`, or the lane itself where that is outside.
inline unsigned within(unsigned source, unsigned width) {
  const unsigned lane = current->lane();
  return lane / width == source / width ? source : lane;
}

inline float widened(__half x) { return __half2float(x); }
inline float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class E, int kRegisters>
void widen(const uint32_t (&registers)[kRegisters], float (&to)[2 * kRegisters]) {
  for (int i = 0; i < kRegisters; ++i) {
    to[2 * i] = widened(std::bit_cast<E>(static_cast<uint16_t>(registers[i])));
    to[2 * i + 1] = widened(std::bit_cast<E>(static_cast<uint16_t>(registers[i] >> 16)));
  }
}

// D += A B by the layout of the PTX ISA, section mma.m16n8k16. With g = lane / 4, q = lane % 4:
// a[0..7] are A[g + 8 (i / 2 % 2)][2 q + i % 2 + 8 (i / 4)], b[0..3] are B[2 q + i % 2 + 8 (i /
// 2)][g], d[0..3] are D[g + 8 (i / 2)][2 q + i % 2].
template <class E>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                  const Location& where = Location::current()) {
  Fragments own;
  widen<E>(a, own.a);
  widen<E>(b, own.b);
  const Fragments* of_lane = gather(own, where);
  const unsigned g = current->lane() / 4, q = current->lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned column = 2 * q + i % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned owner = k % 8 / 2, half = k / 8;
      const float left = of_lane[4 * g + owner].a[k % 2 + 2 * (i / 2) + 4 * half];
      d[i] += left * of_lane[4 * column + owner].b[k % 2 + 2 * half];
    }
  }
}

}  // namespace cuda_sim

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              const cuda_sim::Location& where = cuda_sim::Location::current()) {
  const unsigned first = cuda_sim::current->lane() / width * width;
  return cuda_sim::shuffled(mask, value, first + unsigned(source) % width,
                            cuda_sim::WarpOp::kShuffle, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 const cuda_sim::Location& where = cuda_sim::Location::current()) {
  const unsigned source = cuda_sim::within(cuda_sim::current->lane() - distance, width);
  return cuda_sim::shuffled(mask, value, source, cuda_sim::WarpOp::kShuffleUp, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   const cuda_sim::Location& where = cuda_sim::Location::current()) {
  const unsigned source = cuda_sim::within(cuda_sim::current->lane() + distance, width);
  return cuda_sim::shuffled(mask, value, source, cuda_sim::WarpOp::kShuffleDown, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  const cuda_sim::Location& where = cuda_sim::Location::current()) {
  const unsigned source = cuda_sim::within(cuda_sim::current->lane() ^ lanes, width);
  return cuda_sim::shuffled(mask, value, source, cuda_sim::WarpOp::kShuffleXor, where);
}
