// Which of the threads that can run goes next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuda_sim {

struct Thread;

// A correct kernel gives the same with each. In order hides races; so does a fair random choice,
// since all threads then advance in step. kUnfair gives warps random priorities, drawn again at
// every barrier, so that some run as far as barriers let them while others have not begun.
enum class Schedule { kInOrder, kReverse, kRandom, kUnfair };

class Queue {
 public:
  void set(Schedule schedule, uint64_t seed);
  Schedule schedule() const { return schedule_; }
  // No allocation afterwards: inside fibers it would look to ThreadSanitizer like their own.
  void reset(size_t threads);
  void push(Thread* thread);
  // After all that can run now.
  void push_last(Thread* thread);
  Thread* pop();
  bool empty() const { return heap_.empty(); }
  uint32_t random();

 private:
  struct Entry {
    uint64_t key;
    Thread* thread;
    bool operator<(const Entry& other) const { return key > other.key; }
  };
  void push(Thread* thread, uint64_t key);

  Schedule schedule_ = Schedule::kInOrder;
  uint64_t state_ = 1, pushed_ = 0;
  std::vector<Entry> heap_;
};

}  // namespace cuda_sim
