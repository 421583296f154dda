// The products of a warp's tile: rows of the left operand times rows of weights, both in shared
// memory. A struct of Lanes says which pairs of row and unit each lane has in the end.
#pragma once

#include "number.cuh"
#include "plan.h"

namespace fastrnn::cuda {

// Rows of elements in shared memory, `stride` elements apart.
template <class E>
struct Rows {
  E* data;
  int stride;

  __device__ __forceinline__ E* row(int r) const { return data + int64_t(r) * stride; }
  __device__ __forceinline__ Pack<E> pack(int r, int column) const {
    return *reinterpret_cast<const Pack<E>*>(row(r) + column);
  }
  __device__ __forceinline__ Rows from(int r) const { return {row(r), stride}; }
};

__device__ __forceinline__ int lane_index() { return threadIdx.x % 32; }

// 16 rows x 8 units; a lane has rows l/4, l/4 + 8 and units 2(l%4), 2(l%4) + 1.
template <class E>
struct TileLanes {
  static constexpr Lanes kLanes = Lanes::kTile;
  static constexpr int kTile = 4;   // pairs that a lane sums for
  static constexpr int kPairs = 4;  // pairs whose sums it gets in the end

  __device__ __forceinline__ static bool has_pairs() { return true; }
  __device__ __forceinline__ static int row(int pair) { return lane_index() / 4 + pair / 2 * 8; }
  __device__ __forceinline__ static int unit(int pair) { return lane_index() % 4 * 2 + pair % 2; }

  // sums[p][pair] += products with the weights of product p, whose rows begin at p * next.
  template <int kProducts>
  __device__ __forceinline__ static void multiply(Wide<E> (&sums)[kProducts][kTile], Rows<E> left,
                                                  Rows<E> weights, int next, int depth) {
    if constexpr (sizeof(E) == 2) {
      fragments(sums, left, weights, next, depth);
    } else {
      packs(sums, left, weights, next, depth);
    }
  }

  template <int kProducts>
  __device__ __forceinline__ static void finish(const Wide<E> (&sums)[kProducts][kTile],
                                                Wide<E> (&products)[kProducts][kPairs]) {
#pragma unroll
    for (int p = 0; p < kProducts; ++p) {
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) products[p][pair] = sums[p][pair];
    }
  }

 private:
  template <int kProducts>
  __device__ __forceinline__ static void fragments(float (&sums)[kProducts][kTile], Rows<E> left,
                                                   Rows<E> weights, int next, int depth) {
    const int line = lane_index() / 4, column = lane_index() % 4 * 2;
    const auto two = [](const E* from) { return *reinterpret_cast<const uint32_t*>(from); };
    for (int k = column; k < depth; k += 16) {
      const uint32_t a[4] = {two(left.row(line) + k), two(left.row(line + 8) + k),
                             two(left.row(line) + k + 8), two(left.row(line + 8) + k + 8)};
#pragma unroll
      for (int p = 0; p < kProducts; ++p) {
        const E* weight = weights.row(p * next + line) + k;
        const uint32_t b[2] = {two(weight), two(weight + 8)};
        multiply_fragments<E>(sums[p], a, b);
      }
    }
  }

  template <int kProducts>
  __device__ __forceinline__ static void packs(Wide<E> (&sums)[kProducts][kTile], Rows<E> left,
                                               Rows<E> weights, int next, int depth) {
#pragma unroll 2  // more needs more registers than there are
    for (int k = 0; k < depth; k += Pack<E>::kSize) {
      const Pack<E> rows[2] = {left.pack(row(0), k), left.pack(row(2), k)};
#pragma unroll
      for (int p = 0; p < kProducts; ++p) {
        const Pack<E> units[2] = {weights.pack(p * next + unit(0), k),
                                  weights.pack(p * next + unit(1), k)};
#pragma unroll
        for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
          for (int i = 0; i < Pack<E>::kSize; ++i) {
            sums[p][pair] = ::fma(rows[pair / 2].at[i], units[pair % 2].at[i], sums[p][pair]);
          }
        }
      }
    }
  }
};

// 2 rows x 2 units; each lane sums a part of the depth, and lanes 0 to 3 have a pair each.
template <class E>
struct DepthLanes {
  static constexpr Lanes kLanes = Lanes::kDepth;
  static constexpr int kTile = 4;
  static constexpr int kPairs = 1;

  __device__ __forceinline__ static bool has_pairs() { return lane_index() < kTile; }
  __device__ __forceinline__ static int row(int) { return lane_index() / 2 % 2; }
  __device__ __forceinline__ static int unit(int) { return lane_index() % 2; }

  template <int kProducts>
  __device__ __forceinline__ static void multiply(Wide<E> (&sums)[kProducts][kTile], Rows<E> left,
                                                  Rows<E> weights, int next, int depth) {
    for (int k = lane_index() * Pack<E>::kSize; k < depth; k += 32 * Pack<E>::kSize) {
      const Pack<E> rows[2] = {left.pack(0, k), left.pack(1, k)};
#pragma unroll
      for (int p = 0; p < kProducts; ++p) {
        const Pack<E> units[2] = {weights.pack(p * next, k), weights.pack(p * next + 1, k)};
#pragma unroll
        for (int pair = 0; pair < kTile; ++pair) {
#pragma unroll
          for (int i = 0; i < Pack<E>::kSize; ++i) {
            sums[p][pair] =
                ::fma(widened(rows[pair / 2].at[i]), widened(units[pair % 2].at[i]), sums[p][pair]);
          }
        }
      }
    }
  }

  // Adds up over the lanes, in the same order for each, and leaves each its own pair.
  template <int kProducts>
  __device__ __forceinline__ static void finish(const Wide<E> (&sums)[kProducts][kTile],
                                                Wide<E> (&products)[kProducts][kPairs]) {
#pragma unroll
    for (int p = 0; p < kProducts; ++p) {
#pragma unroll
      for (int pair = 0; pair < kTile; ++pair) {
        Wide<E> sum = sums[p][pair];
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
          sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        }
        if (pair == 0 || lane_index() == pair) products[p][0] = sum;
      }
    }
  }
};

}  // namespace fastrnn::cuda
