#include "plan.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace fastrnn::cuda {
namespace {

constexpr int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// What a multiprocessor does in a cycle, from NVIDIA's tables of arithmetic throughput: fused
// multiply-adds of one element type.
double multiply_adds(int element_bytes, Lanes lanes, int capability) {
  const bool consumer = capability == 86 || capability == 89 || capability >= 120;
  if (element_bytes == 2 && lanes == Lanes::kTile) return consumer ? 512 : 1024;
  if (element_bytes == 8) return consumer ? 2 : capability < 90 ? 32 : 64;
  return capability == 80 ? 64 : 128;
}

// The terms of the model that are not arithmetic, in cycles. They only rank plans; none was
// measured.
constexpr double kBlockBarrier = 50, kGridBarrier = 2000, kLaunchGap = 5000;
constexpr double kStepLatency = 500;     // operands of the cell come in, its functions, h goes out
constexpr double kStagingLatency = 700;  // one trip to the second-level cache
constexpr double kStagedBytes = 64;      // a cycle, from the second-level cache
constexpr double kSharedBytes = 128;     // a cycle
constexpr double kDependentPack = 12;    // cycles between sums of two packs of 16 bytes

// Bytes that a warp reads from shared memory for each element of the depth.
double operand_bytes(const Problem& problem, Lanes lanes) {
  const double bytes = problem.element_bytes, products = problem.products();
  if (lanes == Lanes::kDepth) return (2 + 2 * products) * bytes;
  if (problem.element_bytes == 2) return (16 + 8 * products) * bytes;
  // Lanes with the same row or unit read the same address; the units of a warp's load fill half
  // of the banks.
  return (2 + 2 * products) * kSharedBytes / (16 / bytes);
}

double model(const Problem& problem, const DeviceLimits& device, const Plan& plan) {
  const double depth = problem.depth(), products = problem.products(), warps = plan.warps();
  const TileSize tile = tile_size(plan.lanes);
  const double adds = warps * tile.rows * tile.units * products * depth;
  const double arithmetic =
      adds / multiply_adds(problem.element_bytes, plan.lanes, device.compute_capability);
  const double shared = warps * depth * operand_bytes(problem, plan.lanes) / kSharedBytes;
  const int64_t lanes_of_depth = plan.lanes == Lanes::kDepth ? 32 : 1;
  const double chain =
      kDependentPack * depth * problem.element_bytes / 16 / static_cast<double>(lanes_of_depth);
  double cycles = kStepLatency + std::max({arithmetic, shared, chain});
  if (plan.scope != Scope::kBlock) {
    double staged = plan.rows * depth;
    if (plan.scope == Scope::kLaunch) staged += plan.units * products * depth;
    cycles += kStagingLatency + staged * problem.element_bytes / kStagedBytes;
  }
  const double waves = static_cast<double>(
      up(plan.row_blocks * plan.unit_blocks, device.multiprocessors) / device.multiprocessors);
  const double barrier = plan.scope == Scope::kBlock  ? kBlockBarrier
                         : plan.scope == Scope::kGrid ? kGridBarrier
                                                      : kLaunchGap;
  return waves * cycles + barrier;
}

// The plan with these tiles, its chunk of depth as large as shared memory allows, or nothing.
std::optional<Plan> fitted(const Problem& problem, const DeviceLimits& device, Scope scope,
                           Lanes lanes, int rows, int units) {
  Plan plan = {scope, lanes, rows, units};
  plan.row_blocks = up(problem.B, rows) / rows;
  plan.unit_blocks = up(problem.H, units) / units;
  if (scope == Scope::kBlock && plan.unit_blocks > 1) return std::nullopt;
  if (scope == Scope::kGrid && plan.row_blocks * plan.unit_blocks > device.multiprocessors) {
    return std::nullopt;
  }
  const int64_t depth = problem.depth(), weight_rows = problem.products() * units;
  const auto bytes = [&](int64_t columns) { return padded_bytes(columns * problem.element_bytes); };
  // Columns of the left operand: a power of two from 64 on, or all.
  for (int64_t chunk = depth;; chunk = chunk > 4096 ? 4096 : chunk / 2) {
    if (chunk < depth && chunk < 64) return std::nullopt;
    if (chunk < depth) {
      while (chunk & (chunk - 1)) chunk &= chunk - 1;
    }
    const int64_t left = (scope == Scope::kBlock ? 2 : 1) * rows * bytes(chunk);
    const int64_t weights = weight_rows * bytes(scope == Scope::kLaunch ? chunk : depth);
    plan.depth_chunk = static_cast<int>(chunk);
    plan.shared_bytes = left + weights;
    if (plan.shared_bytes <= device.shared_bytes) break;
    if (scope == Scope::kBlock) return std::nullopt;
  }
  plan.step_cycles = model(problem, device, plan);
  return plan;
}

void check(const Problem& problem, const DeviceLimits& device) {
  const int bytes = problem.element_bytes;
  if (bytes != 2 && bytes != 4 && bytes != 8) {
    throw std::invalid_argument("elements must have 2, 4 or 8 bytes, got " + std::to_string(bytes));
  }
  if (problem.T <= 0 || problem.B <= 0 || problem.H <= 0 || problem.H > (int64_t{1} << 24)) {
    throw std::invalid_argument("T, B and H must be positive, and H no more than 2^24");
  }
  if (device.compute_capability < 80) {
    throw std::invalid_argument(
        "the kernels need compute capability 8.0 (Ampere) or newer, this GPU has " +
        std::to_string(device.compute_capability / 10) + "." +
        std::to_string(device.compute_capability % 10));
  }
}

}  // namespace

Plan make_plan(const Problem& problem, const DeviceLimits& device) {
  check(problem, device);
  const int warps = max_warps(problem.element_bytes);
  std::optional<Plan> best;
  for (const Scope scope : {Scope::kBlock, Scope::kGrid, Scope::kLaunch}) {
    for (const Lanes lanes : {Lanes::kTile, Lanes::kDepth}) {
      const TileSize tile = tile_size(lanes);
      const int64_t row_tiles = up(problem.B, tile.rows) / tile.rows;
      const int64_t unit_tiles = up(problem.H, tile.units) / tile.units;
      for (int across = 1; across <= warps && across <= unit_tiles; ++across) {
        for (int down = 1; down * across <= warps && down < 2 * row_tiles; down *= 2) {
          const auto plan =
              fitted(problem, device, scope, lanes, down * tile.rows, across * tile.units);
          if (plan && (!best || plan->step_cycles < best->step_cycles)) best = plan;
        }
      }
    }
  }
  if (!best) {
    throw std::invalid_argument("no plan fits " + std::to_string(device.shared_bytes) +
                                " bytes of shared memory");
  }
  return *best;
}

std::string reason(const Plan& plan) {
  const std::string cycles = std::to_string(static_cast<int64_t>(plan.step_cycles));
  switch (plan.scope) {
    case Scope::kBlock:
      return "one launch, blocks of rows run all steps with the weights in shared memory (modelled "
             "at " +
             cycles + " cycles a step)";
    case Scope::kGrid:
      return "one cooperative launch, blocks share the hidden units, keep their weights in shared "
             "memory and meet after each step (modelled at " +
             cycles + " cycles a step)";
    default:
      return "a launch for each step, since the weights do not fit on the chip (modelled at " +
             cycles + " cycles a step)";
  }
}

}  // namespace fastrnn::cuda
