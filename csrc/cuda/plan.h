// How the recurrence of one layer is spread over a GPU: a pure function of sizes and limits.
#pragma once

#include <cstdint>
#include <string>

#include "../layer.h"

namespace fastrnn::cuda {

// Who has to wait for whom between two steps.
enum class Scope {
  kBlock,   // a block has all hidden units of its rows: one launch, a block-wide barrier a step
  kGrid,    // blocks share hidden units, weights stay on the chip: one launch, a grid-wide barrier
  kLaunch,  // the weights fit in no chip: a launch for each step, weights are read in each
};

// How the lanes of a warp share its tile of products.
enum class Lanes {
  kTile,   // 16 rows x 8 units: half types on tensor cores, others by fused multiply-adds
  kDepth,  // 2 rows x 2 units: lanes share the depth of the sums; for few rows
};

struct TileSize {
  int rows, units;
};
constexpr TileSize tile_size(Lanes lanes) {
  return lanes == Lanes::kTile ? TileSize{16, 8} : TileSize{2, 2};
}

// Warps of a block, no more than leave each thread the registers that its sums and operands need:
// 255, 168, 128 for elements of 8, 4, 2 bytes.
constexpr int max_warps(int64_t element_bytes) {
  return element_bytes == 8 ? 8 : element_bytes == 4 ? 12 : 16;
}

struct DeviceLimits {
  int multiprocessors;
  int shared_bytes;        // that a block may ask for
  int compute_capability;  // 10 * major + minor
};

struct Problem {
  Mode mode;
  int element_bytes;
  bool backward;
  int64_t T, B, H;

  // Rows of weights for each hidden unit, and the depth of the sums.
  int64_t products() const { return backward ? 1 : gates(mode); }
  int64_t depth() const { return backward ? gates(mode) * H : H; }
};

struct Plan {
  Scope scope;
  Lanes lanes;
  int rows, units;  // of a block
  int depth_chunk;  // columns of the left operand in shared memory at once
  int64_t row_blocks, unit_blocks;
  int64_t shared_bytes;  // of a block
  double step_cycles;    // modelled, never measured

  int warps() const {
    const TileSize tile = tile_size(lanes);
    return (rows / tile.rows) * (units / tile.units);
  }
};

// Bytes from one row to the next in shared memory: 16 more than a multiple of all banks, so that
// the rows of a tile lie in different banks.
constexpr int64_t padded_bytes(int64_t bytes) { return (bytes + 127) / 128 * 128 + 16; }

// Throws std::invalid_argument for a device or dtype that has no kernels, with the reason.
Plan make_plan(const Problem& problem, const DeviceLimits& device);

// Why this plan, for a user who asks.
std::string reason(const Plan& plan);

}  // namespace fastrnn::cuda
