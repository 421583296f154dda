#include "packed_cache.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

namespace fastrnn {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Entry {
  PackedKey key;
  std::shared_ptr<const void> packed;
  size_t bytes;
};

// The most recently used entry is the last.
struct Cache {
  std::mutex mutex;
  std::vector<Entry> entries;
  size_t bytes = 0;

  void drop(std::vector<Entry>::iterator entry) {
    bytes -= entry->bytes;
    entries.erase(entry);
  }
};

// Never destroyed: threads may still run at exit.
Cache& cache() {
  static Cache* const cache = [] {
    // A child must not inherit a mutex that another thread of its parent holds.
    pthread_atfork([] { fastrnn::cache().mutex.lock(); }, [] { fastrnn::cache().mutex.unlock(); },
                   [] { fastrnn::cache().mutex.unlock(); });
    return new Cache;
  }();
  return *cache;
}

bool same_place(const PackedKey& a, const PackedKey& b) {
  return a.where == b.where && a.layout == b.layout;
}

std::shared_ptr<const void> find(const PackedKey& key) {
  Cache& kept = cache();
  const std::lock_guard lock(kept.mutex);
  const auto found = std::find_if(kept.entries.begin(), kept.entries.end(), [&](const Entry& e) {
    return same_place(e.key, key) && e.key.contents == key.contents;
  });
  if (found == kept.entries.end()) return nullptr;
  std::rotate(found, found + 1, kept.entries.end());
  return kept.entries.back().packed;
}

void keep(const PackedKey& key, const std::shared_ptr<const void>& packed, size_t bytes) {
  if (bytes > kPackedKept) return;
  Cache& kept = cache();
  const std::lock_guard lock(kept.mutex);
  // Weights that have changed in place will not come back.
  const auto stale = std::find_if(kept.entries.begin(), kept.entries.end(),
                                  [&](const Entry& e) { return same_place(e.key, key); });
  if (stale != kept.entries.end()) kept.drop(stale);
  while (kept.bytes + bytes > kPackedKept) kept.drop(kept.entries.begin());
  kept.entries.push_back({key, packed, bytes});
  kept.bytes += bytes;
}

}  // namespace

std::shared_ptr<const void> kept_packing(const PackedKey& key, size_t bytes,
                                         const std::function<void(void*)>& fill) {
  if (auto found = find(key)) return found;
  const std::shared_ptr<void> packed(::operator new(bytes, kAlignment),
                                     [](void* p) { ::operator delete(p, kAlignment); });
  fill(packed.get());
  keep(key, packed, bytes);
  return packed;
}

}  // namespace fastrnn
