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

// Up to so many rows (steps times batch) backward's products stream the weights once each anyway.
constexpr int64_t kInPlaceRows = 4;

// A step of so many operations in each thread repays meeting the others after it; a single step
// also has to repay waking them.
constexpr int64_t kFlopPerMeeting = 80'000, kFlopPerSingleStep = 400'000;

// With so few rows in each thread, sharing rows would let all threads wait for the same weights: a
// single one where they stay in L2 (found with two threads; with more, meeting costs more), more
// where they do not, and most where they come from memory, which would have to give them to each.
constexpr int64_t kSingleRow = 1, kFewRows = 3, kRowsOfMemory = 32;
constexpr int64_t kLastLevelBytes = 16 * 1024 * 1024;

// The input products of so many bytes wait in cache for their recurrence: of a single row in the
// second level, of more in the last.
constexpr int64_t kProjectedBytes = 128 * 1024, kProjectedRowsBytes = 4 * 1024 * 1024;

// Half of what is kept of all packings (packed_cache.h).
constexpr int64_t kTableBytes = int64_t(32) << 20;

// Layers that run at the same time are some steps apart, so that fewer steps than this leave too
// few to run at the same time; and of so many the input product is taken at once.
constexpr int64_t kStepsOfWavefront = 64, kProjectedBesideOthers = 16;

// Weights that fit in the first-level cache as they are gain nothing from being shorter.
constexpr int64_t kFirstLevelBytes = 32 * 1024;

// The widest panel of a single row fills the multiplying units with 8 to 12 sums.
int64_t single_row_vectors(Mode mode, int64_t H, int64_t width) {
  int64_t vectors = widest_panel(gates(mode));
  if (gates(mode) == 1) {
    while (vectors > 1 && vectors * width >= 2 * H) vectors /= 2;
    return vectors;
  }
  const int64_t units = vectors * width, padded = (H + units - 1) / units * units;
  return 4 * padded <= 5 * H ? vectors : 1;  // zeros cost as much as weights
}

// Elements of both matrices: each is a multiply-add for each row of a step.
int64_t weights_of(Mode mode, const Shape& shape) {
  return gates(mode) * shape.H * (shape.I + shape.H);
}

// Weights that leave room in L2 for the rows stay there through all steps.
bool stay_in_l2(int64_t weight_bytes, const Machine& machine) {
  return 2 * weight_bytes <= machine.l2_bytes;
}

// Threads that share the hidden units of all rows. In a single step each then reads its own part of
// the weights and no other; in many steps that is worth meeting after each only where rows are few.
int64_t parts_of_units(Mode mode, const Shape& shape, int64_t element_bytes,
                       const Machine& machine) {
  const int64_t weights = weights_of(mode, shape), weight_bytes = weights * element_bytes;
  const int64_t flop = 2 * shape.B * weights, threads = machine.threads;
  if (shape.T == 1) return std::clamp<int64_t>(flop / kFlopPerSingleStep, 1, threads);
  const int64_t rows = stay_in_l2(weight_bytes, machine) ? (threads == 2 ? kSingleRow : 0)
                       : weight_bytes > kLastLevelBytes  ? kRowsOfMemory
                                                         : kFewRows;
  if (shape.B == 0 || (shape.B >= threads && shape.B > rows * threads)) return 1;
  return std::clamp<int64_t>(flop / kFlopPerMeeting, 1, threads);
}

// The narrowest panel that holds n lanes, at most four vectors.
int64_t panel_vectors(int64_t n, int64_t width) { return n <= width ? 1 : n <= 2 * width ? 2 : 4; }

}  // namespace

int64_t items_per_thread(int64_t flop) {
  return std::max<int64_t>(1, kFlopPerThread / std::max<int64_t>(flop, 1));
}

bool side_by_side(Mode mode, const Shape& shape, const Machine& machine) {
  // With more threads than two, only rows or units give work to all.
  return machine.threads == 2 &&
         2 * shape.T * shape.B * weights_of(mode, shape) >= kFlopPerThread / 2;
}

int64_t layers_at_once(Mode mode, const Shape& shape, int64_t layers, int64_t element_bytes,
                       const Machine& machine) {
  const int64_t weights = weights_of(mode, shape);
  // More rows are shared; larger weights, and steps long enough to meet after, are shared by units.
  const bool few_rows = shape.B > 0 && shape.B <= kFewRows;
  if (shape.T < kStepsOfWavefront || !few_rows) return 1;
  if (!stay_in_l2(weights * element_bytes, machine)) return 1;
  if (parts_of_units(mode, shape, element_bytes, machine) > 1) return 1;
  const bool worth_threads = 2 * shape.T * shape.B * weights >= kFlopPerThread / 2;
  return worth_threads ? std::min(layers, machine.threads) : 1;
}

std::vector<int64_t> equal_parts(const Timeline& timeline, int64_t parts) {
  std::vector<int64_t> cuts = {0};
  const int64_t all = timeline.first_row(timeline.T);
  int64_t row = 0, length = timeline.T, done = 0;
  for (int64_t part = 1; part < parts; ++part) {
    for (; row < timeline.B && done * parts < all * part; ++row, done += length) {
      while (length > 0 && timeline.rows(length - 1) <= row) --length;
    }
    cuts.push_back(row);
  }
  cuts.push_back(timeline.B);
  return cuts;
}

Plan plan_layer(Mode mode, const Shape& shape, int64_t features, int64_t element_bytes,
                const Machine& machine, bool bfloat16_weights, int64_t vocabulary, bool keeps,
                bool masks, bool beside_others) {
  const auto [T, B, I, H] = shape;
  Plan plan = {};
  const int64_t sum_bytes = std::max<int64_t>(element_bytes, sizeof(float)),
                width = machine.vector_bytes / sum_bytes, weights = weights_of(mode, shape);
  // A projection needs all units of a step at once.
  const bool projects = features < H;
  const bool tokens = vocabulary > 0;
  plan.single_step = T == 1 && !projects && !tokens && !masks;
  plan.in_place = T * B <= kInPlaceRows && element_bytes == sum_bytes;
  const int64_t weight_bytes = weights * element_bytes;
  plan.unit_parts = projects ? 1 : parts_of_units(mode, shape, element_bytes, machine);
  // A single row uses each hidden weight once a step and waits for it; of the input's, many steps
  // can share.
  const bool single_row = B == 1 && T > 1;
  // Half-empty vectors cost as much as full ones: where all units fit in half, two rows share one.
  plan.rows_per_vector = machine.vector_bytes == 64 && 2 * H <= width && B > 1 ? 2 : 1;
  plan.vectors_per_gate = single_row                  ? single_row_vectors(mode, H, width)
                          : gates(mode) == 1 && T > 1 ? panel_vectors(H, width)
                                                      : 1;
  plan.bfloat16_weights = bfloat16_weights && single_row &&
                          plan.vectors_per_gate == widest_panel(gates(mode)) &&
                          gates(mode) * H * H * element_bytes > kFirstLevelBytes;
  const int64_t projected_bytes = gates(mode) * H * sum_bytes;
  plan.hidden_panel = panel_vectors(features, width);
  plan.unit_panel = panel_vectors(H, width);
  plan.input_panel = panel_vectors(I, width);
  // Those that do not stay must pass once per step for as many rows as there are.
  plan.row_block = stay_in_l2(weight_bytes, machine) ? kRowBlock : std::max<int64_t>(B, 1);
  // A panel for both products and the rows that pass it: more than three quarters of L2 do not stay
  // there.
  const int64_t panel = gates(mode) * plan.vectors_per_gate * width;
  const int64_t together = (panel + std::min(B, plan.row_block)) * (I + features) * element_bytes;
  const bool too_large = 4 * together > 3 * machine.l2_bytes && plan.rows_per_vector == 1;
  if (T > 1 && !tokens && (single_row || too_large)) {
    const int64_t bytes = single_row ? kProjectedBytes : kProjectedRowsBytes;
    plan.projected_steps =
        std::clamp<int64_t>(bytes / std::max<int64_t>(B * projected_bytes, 1), 1, T);
  }
  // Each step then takes one vector of a panel for as many steps ahead as the panel has vectors.
  // Half of AVX-512's registers are free for that.
  const int64_t vectors = gates(mode) * plan.vectors_per_gate;
  plan.projects_ahead = single_row && !tokens && machine.vector_bytes == 64 &&
                        element_bytes == sum_bytes && vectors >= kWidePanel && T >= 4 * vectors;
  if (plan.projects_ahead) plan.projected_steps = vectors;
  if (beside_others) plan.projected_steps = std::min(plan.projected_steps, kProjectedBesideOthers);
  // Half of L2 for the gradients of the sums, but rows enough for the weight gradients' tiles.
  const int64_t row_bytes = sums(mode) * H * element_bytes;
  const int64_t rows = std::max(kGradientRowsAtOnce, machine.l2_bytes / 2 / row_bytes);
  plan.backward_steps = std::min(T, std::max<int64_t>(1, rows / std::max<int64_t>(B, 1)));
  // Where the weights are larger than all gradients of the sums, memory is spared by packing one
  // matrix of them at a time.
  if (T * B * row_bytes <= weight_bytes) plan.backward_steps = T;
  plan.rows_per_thread = items_per_thread(2 * T * weights);
  // A table of no more rows than the call has costs no more than the product, and the next call
  // has it already.
  plan.whole_table = keeps && vocabulary <= T * B && vocabulary * projected_bytes <= kTableBytes;
  return plan;
}

}  // namespace fastrnn
