// Packed weights kept from one call without gradients to the next.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace fastrnn {

// A packing is used again only if the weights it was made of have the same bytes, whatever became
// of the tensors that hold them: torch's version counters miss changes through `.data`. Reading
// them costs as much as one step of many.
struct PackedKey {
  std::array<const void*, 6> where;
  std::array<int64_t, 11> layout;  // all that the packing depends on beside the weights
  uint64_t contents;               // fingerprint of the weights' bytes
};

// All packings together; the least recently used go first. Larger ones are not kept.
constexpr size_t kPackedKept = size_t(64) << 20;

// `bytes` of memory that `fill` has filled, now or at an earlier call with the same key. Safe to be
// called by many threads, and after a fork.
std::shared_ptr<const void> kept_packing(const PackedKey& key, size_t bytes,
                                         const std::function<void(void*)>& fill);

}  // namespace fastrnn
