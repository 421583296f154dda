// torch's thread pool, so that torch.set_num_threads governs ours too.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

#include "../layer.h"
#include "denormals.h"
#include "machine.h"
#include "team.h"

namespace fastrnn {

// body(begin, end) over parts of [0, n), at least `grain` long but the last, on torch's threads; in
// this thread when there is no more than one part or a parallel region is open already. Subnormal
// numbers are flushed inside body, on every thread alike.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    body(begin, end);
  });
}

// Threads share the batch: body(part) with all H units of at least `grain` rows, or of as much work
// where rows differ in length.
template <class Body>
void share_rows(const Timeline& timeline, int64_t H, int64_t grain, const Body& body) {
  if (!timeline.offsets) {
    return parallel_for(timeline.B, grain,
                        [&](int64_t begin, int64_t end) { body(Part{begin, end, 0, H}); });
  }
  const int64_t worth = timeline.first_row(timeline.T) / (grain * std::max<int64_t>(timeline.T, 1));
  const int64_t parts = std::clamp<int64_t>(worth, 1, current_machine().threads);
  const std::vector<int64_t> cuts = equal_parts(timeline, parts);
  parallel_for(parts, 1,
               [&](int64_t begin, int64_t end) { body(Part{cuts[begin], cuts[end], 0, H}); });
}

// Threads share the units of all rows, cut at multiples of `block`: body(part). With `meet`, body
// may wait for the others.
template <class Body>
void share_units(const Shape& shape, int64_t parts, int64_t block, bool meet, const Body& body) {
  const int64_t blocks = (shape.H + block - 1) / block;
  parts = std::min(parts, blocks);
  const auto part = [&](int64_t begin, int64_t end) {
    return Part{0, shape.B, begin * blocks / parts * block,
                std::min(end * blocks / parts * block, shape.H)};
  };
  if (!meet || parts == 1) {
    return parallel_for(parts, 1, [&](int64_t begin, int64_t end) { body(part(begin, end)); });
  }
  Team team(parts);
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    const Team::Role role = team.join(end - begin);
    if (role == Team::Role::kNone) return;
    if (role == Team::Role::kAlone) return body(part(0, parts));
    Member member(team, end - begin);
    Part shared = part(begin, end);
    shared.member = &member;
    shared.meet = [](void* self) { static_cast<Member*>(self)->meet(); };
    body(shared);
  });
}

}  // namespace fastrnn
