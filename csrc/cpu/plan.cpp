#include "plan.h"

#include <algorithm>

namespace fastrnn {
namespace {

// Work below this does not repay waking a thread: some 50 microseconds of one core.
constexpr int64_t kFlopPerThread = 2'500'000;

// A multiple of every tile's rows; its states, inputs and sums of one step stay in L1.
constexpr int64_t kRowBlock = 48;

// Fewer rows than this at a time would pass over the weight gradients too often.
constexpr int64_t kGradientRowsAtOnce = 512;

// The narrowest panel that holds n lanes, at most four vectors.
int64_t panel_vectors(int64_t n, int64_t width) { return n <= width ? 1 : n <= 2 * width ? 2 : 4; }

}  // namespace

int64_t items_per_thread(int64_t flop) {
  return std::max<int64_t>(1, kFlopPerThread / std::max<int64_t>(flop, 1));
}

Plan plan_layer(Mode mode, const Shape& shape, int64_t element_bytes, const Machine& machine) {
  const auto [T, B, I, H] = shape;
  Plan plan;
  const int64_t width = machine.vector_bytes / element_bytes;
  // Half-empty vectors cost as much as full ones: where all units fit in half, two rows share one.
  plan.rows_per_vector = machine.vector_bytes == 64 && 2 * H <= width ? 2 : 1;
  plan.vectors_per_gate = gates(mode) == 1 ? panel_vectors(H, width) : 1;
  plan.hidden_panel = panel_vectors(H, width);
  plan.input_panel = panel_vectors(I, width);
  // Weights that leave room in L2 for the rows are kept there through all steps; larger ones must
  // pass once per step for as many rows as there are.
  const int64_t weight_bytes = gates(mode) * H * (I + H) * element_bytes;
  plan.row_block = 2 * weight_bytes <= machine.l2_bytes ? kRowBlock : std::max<int64_t>(B, 1);
  // Half of L2 for the gradients of the sums, but rows enough for the weight gradients' tiles.
  const int64_t row_bytes = sums(mode) * H * element_bytes;
  const int64_t rows = std::max(kGradientRowsAtOnce, machine.l2_bytes / 2 / row_bytes);
  plan.backward_steps = std::min(T, std::max<int64_t>(1, rows / std::max<int64_t>(B, 1)));
  plan.rows_per_thread = items_per_thread(2 * T * gates(mode) * H * (I + H));
  return plan;
}

}  // namespace fastrnn
