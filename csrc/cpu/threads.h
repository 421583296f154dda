// torch's thread pool, so that torch.set_num_threads governs ours too.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

#include "../layer.h"
#include "denormals.h"
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

// Threads share the batch: body(part) with all units of at least `grain` rows.
template <class Body>
void share_rows(const Shape& shape, int64_t grain, const Body& body) {
  parallel_for(shape.B, grain,
               [&](int64_t begin, int64_t end) { body(Part{begin, end, 0, shape.H}); });
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
