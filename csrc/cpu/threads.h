// torch's thread pool, so that torch.set_num_threads governs ours too.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

namespace fastrnn {

// body(begin, end) over parts of [0, n), at least `grain` long but the last, on torch's threads; in
// this thread when there is no more than one part or a parallel region is open already.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n > 0) torch::stable::parallel_for(0, n, grain, body);
}

}  // namespace fastrnn
