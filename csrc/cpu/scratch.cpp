#include "scratch.h"

#include <algorithm>
#include <array>
#include <new>

#include "../fresh_pages.h"

namespace fastrnn {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr size_t kHeader = 64;  // before the memory handed out: its size, and alignment kept

struct Block {
  void* data = nullptr;
  size_t bytes = 0;
};

void release(Block& block) {
  ::operator delete(block.data, kAlignment);
  block = {};
}

// A call has few scratch arrays alive at once, so a thread keeps few.
struct Kept {
  std::array<Block, 4> blocks;
  ~Kept() { std::for_each(blocks.begin(), blocks.end(), release); }

  size_t total() const {
    size_t sum = 0;
    for (const Block& block : blocks) sum += block.bytes;
    return sum;
  }
};

thread_local Kept kept;

bool smaller(const Block& a, const Block& b) { return a.bytes < b.bytes; }

}  // namespace

void* take_scratch(size_t bytes) {
  Block best;
  Block* slot = nullptr;
  for (Block& block : kept.blocks) {
    if (block.bytes >= bytes && block.data && (!slot || smaller(block, *slot))) slot = &block;
  }
  if (slot) {
    std::swap(best, *slot);
  } else {
    best = {::operator new(bytes + kHeader, kAlignment), bytes};
    ask_for_huge_pages(best.data, bytes);
  }
  *static_cast<size_t*>(best.data) = best.bytes;
  return static_cast<char*>(best.data) + kHeader;
}

void give_back_scratch(void* data) {
  Block block{static_cast<char*>(data) - kHeader, 0};
  block.bytes = *static_cast<size_t*>(block.data);
  // The smallest of those kept makes room: large blocks serve small requests, not the reverse.
  Block& least = *std::min_element(kept.blocks.begin(), kept.blocks.end(), smaller);
  if (smaller(least, block) && kept.total() - least.bytes + block.bytes <= kScratchKept) {
    std::swap(least, block);
  }
  release(block);
}

}  // namespace fastrnn
