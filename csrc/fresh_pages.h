// Memory that no call had before costs a page fault for each page when it is first touched.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastrnn {

// glibc maps blocks from this size on anew for each call, whatever was freed before.
constexpr size_t kMappedBytes = size_t(32) << 20;

// Asks for huge pages for so large a block, before its first touch: 100 MiB take 10 milliseconds
// then, in pages of 4 KiB 42. It is advice: a system without huge pages does as before.
inline void ask_for_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kMappedBytes) return;
  constexpr uintptr_t kHugePage = uintptr_t(2) << 20;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (address + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace fastrnn
