// Scratch memory that a thread keeps from call to call: fresh memory costs a page fault per 4 KiB,
// at small sizes more than the work done in it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastrnn {

// Takes and gives back memory of the calling thread, not initialised, aligned to a cache line.
// A thread keeps at most kScratchKept bytes: enough for layers of 128 units, which lose a quarter
// of their training time without; more would raise the peak of large layers above torch.nn's, and
// gain them nothing. take_scratch throws std::bad_alloc.
constexpr size_t kScratchKept = size_t(3) << 20;
void* take_scratch(size_t bytes);
void give_back_scratch(void* data);

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t elements)
      : data_(static_cast<T*>(take_scratch(static_cast<size_t>(elements) * sizeof(T)))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { give_back_scratch(data_); }
  operator T*() const { return data_; }

 private:
  T* data_;
};

}  // namespace fastrnn
