// The kernel: steps of a recurrence, one after the other, over a block's tile of rows and units.
//
// A step stages the left operand in shared memory, multiplies, and updates each pair of row and
// unit. Plans differ in who must be waited for between two steps (Scope) and in what stays in
// shared memory: with Scope::kBlock both operands, the left one in two halves that take turns, so
// that a step writes what none reads before the barrier; with kGrid the weights; with kLaunch
// nothing.
//
// Memory order between steps. kBlock: h goes through shared memory, __syncthreads orders it.
// kGrid: h goes through global memory to other multiprocessors. grid.sync() is a barrier with a
// device-wide fence before it and after it: every store before it is visible at the second-level
// cache to every load after it that reads there, and all loads of the left operand do (__ldcg in
// load_pack), since a first-level cache may hold a line from before. Everything else that a step
// reads of earlier ones, its own thread wrote. kLaunch: launches in a stream are ordered.
#pragma once

#include "multiply.cuh"
#include "passes.cuh"

namespace fastrnn::cuda {

// What of a plan the kernel needs.
struct Tiling {
  Scope scope;
  int rows, units, depth_chunk;
};

constexpr int kDepthStep = 16;  // of TileLanes::fragments; a multiple of a Pack

template <class Pass, class LanesOf>
struct BlockOfRows {
  using E = typename Pass::Element;
  using W = Wide<E>;
  static constexpr int kProducts = Pass::kProducts, kPairs = LanesOf::kPairs;

  const Pass& pass;
  const Tiling& tiling;
  int64_t row, unit;        // first of the block
  int tile_row, tile_unit;  // of the warp's tile in the block
  Rows<E> left, other_left, weights;

  __device__ BlockOfRows(const Pass& p, const Tiling& t, unsigned char* shared)
      : pass(p), tiling(t), row(int64_t(blockIdx.x) * t.rows), unit(int64_t(blockIdx.y) * t.units) {
    constexpr TileSize kTile = tile_size(LanesOf::kLanes);
    const int warp = threadIdx.x / 32, across = tiling.units / kTile.units;
    tile_row = warp / across * kTile.rows;
    tile_unit = warp % across * kTile.units;
    const int left_stride = stride(tiling.depth_chunk);
    const int weight_stride = weights_stay() ? stride(pass.depth()) : left_stride;
    E* data = reinterpret_cast<E*>(shared);
    left = {data, left_stride};
    data += int64_t(tiling.rows) * left_stride;
    other_left = {data, left_stride};
    if (tiling.scope == Scope::kBlock) data += int64_t(tiling.rows) * left_stride;
    weights = {data, weight_stride};
  }

  __device__ __forceinline__ bool weights_stay() const { return tiling.scope != Scope::kLaunch; }
  __device__ __forceinline__ static int stride(int64_t columns) {
    return static_cast<int>(padded_bytes(columns * sizeof(E)) / sizeof(E));
  }

  // Fills rows of shared memory with `columns` columns from `first` on, up to a multiple of
  // kDepthStep, zeros where `source(r)` is null or ends.
  template <class Source>
  __device__ void stage(Rows<E> to, int rows, int64_t first, int columns, const Source& source) {
    const int64_t there = pass.depth() - first;
    const int width = (columns + kDepthStep - 1) / kDepthStep * kDepthStep;
    const int warps = blockDim.x / 32;
    for (int r = threadIdx.x / 32; r < rows; r += warps) {
      const E* from = source(r);
      for (int k = lane_index() * Pack<E>::kSize; k < width; k += 32 * Pack<E>::kSize) {
        const Pack<E> pack = from && k < there ? load_pack(from + first + k, there - k) : Pack<E>{};
        *reinterpret_cast<Pack<E>*>(to.row(r) + k) = pack;
      }
    }
  }

  __device__ void stage_weights(int64_t first, int columns) {
    stage(weights, kProducts * tiling.units, first, columns, [&](int r) -> const E* {
      const int64_t u = unit + r % tiling.units;
      return u < pass.units() ? pass.weights(r / tiling.units, u) : nullptr;
    });
  }

  __device__ void stage_left(int64_t i, int64_t first, int columns) {
    stage(left, tiling.rows, first, columns, [&](int r) -> const E* {
      return row + r < pass.rows() ? pass.left(i, row + r) : nullptr;
    });
  }

  __device__ void begin() {
    if (weights_stay()) stage_weights(0, static_cast<int>(pass.depth()));
    if (tiling.scope == Scope::kBlock) {
      const auto none = [](int) -> const E* { return nullptr; };
      stage(other_left, tiling.rows, 0, tiling.depth_chunk, none);
      if constexpr (Pass::kStartsFromLeft) {
        stage_left(0, 0, tiling.depth_chunk);
      } else {
        stage(left, tiling.rows, 0, tiling.depth_chunk, none);
      }
    }
    __syncthreads();
  }

  __device__ void step(int64_t i) {
    typename Pass::Operands operands[kPairs];
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      if (has_pair(pair)) operands[pair] = pass.load(i, row_of(pair), unit_of(pair));
    }
    W sums[kProducts][LanesOf::kTile] = {}, products[kProducts][kPairs];
    if (Pass::kStartsFromLeft || i > 0) multiply(i, sums);
    LanesOf::template finish<kProducts>(sums, products);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      if (has_pair(pair)) update(i, pair, products, operands[pair]);
    }
    if (tiling.scope == Scope::kBlock) {
      const Rows<E> written = other_left;
      other_left = left, left = written;
    }
  }

 private:
  __device__ __forceinline__ int64_t row_of(int pair) const {
    return row + tile_row + LanesOf::row(pair);
  }
  __device__ __forceinline__ int64_t unit_of(int pair) const {
    return unit + tile_unit + LanesOf::unit(pair);
  }
  __device__ __forceinline__ bool has_pair(int pair) const {
    return LanesOf::has_pairs() && unit_of(pair) < pass.units();
  }

  __device__ void multiply(int64_t i, W (&sums)[kProducts][LanesOf::kTile]) {
    const int64_t depth = pass.depth();
    for (int64_t first = 0; first < depth; first += tiling.depth_chunk) {
      const int columns =
          static_cast<int>(depth - first < tiling.depth_chunk ? depth - first : tiling.depth_chunk);
      if (tiling.scope != Scope::kBlock) {
        stage_left(i, first, columns);
        if (!weights_stay()) stage_weights(first, columns);
        __syncthreads();
      }
      Rows<E> tile_weights = weights.from(tile_unit);
      if (weights_stay()) tile_weights.data += first;
      LanesOf::template multiply<kProducts>(sums, left.from(tile_row), tile_weights, tiling.units,
                                            (columns + kDepthStep - 1) / kDepthStep * kDepthStep);
      if (tiling.scope != Scope::kBlock) __syncthreads();
    }
  }

  __device__ void update(int64_t i, int pair, const W (&products)[kProducts][kPairs],
                         const typename Pass::Operands& operands) {
    W own[kProducts];
#pragma unroll
    for (int p = 0; p < kProducts; ++p) own[p] = products[p][pair];
    E next[Pass::kParts] = {};
    const bool has_step = pass.update(i, row_of(pair), unit_of(pair), own, operands, next);
    if (tiling.scope != Scope::kBlock) return;
    const int r = tile_row + LanesOf::row(pair);
#pragma unroll
    for (int part = 0; part < Pass::kParts; ++part) {
      const int64_t column = part * pass.units() + unit_of(pair);
      // A row that is not there yet keeps its first h; one that gives no gradients gives zeros.
      const bool keeps = Pass::kStartsFromLeft && !has_step;
      other_left.row(r)[column] = keeps ? left.row(r)[column] : next[part];
    }
  }
};

template <class Pass, class LanesOf>
__global__ void __launch_bounds__(32 * max_warps(sizeof(typename Pass::Element)), 1)
    recurrence(const __grid_constant__ Pass pass, const __grid_constant__ Tiling tiling,
               const int64_t begin, const int64_t end) {
  FASTRNN_SHARED(shared);
  BlockOfRows<Pass, LanesOf> block(pass, tiling, shared);
  if (tiling.scope == Scope::kLaunch && !pass.has_work(begin, block.row)) return;
  block.begin();
  for (int64_t i = begin; i < end; ++i) {
    if (pass.has_work(i, block.row)) block.step(i);
    if (tiling.scope == Scope::kBlock) __syncthreads();
    if (tiling.scope == Scope::kGrid && i + 1 < end) cooperative_groups::this_grid().sync();
  }
}

}  // namespace fastrnn::cuda
