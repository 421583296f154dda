#include "schedule.h"

#include <algorithm>

#include "threads.h"

namespace cuda_sim {

void Queue::set(Schedule schedule, uint64_t seed) {
  schedule_ = schedule;
  state_ = seed;
}

// splitmix64
uint32_t Queue::random() {
  uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((x ^ x >> 31) >> 32);
}

void Queue::reset(size_t threads) {
  heap_.clear();
  heap_.reserve(threads);
  pushed_ = 0;
}

void Queue::push(Thread* thread) {
  constexpr uint64_t kMiddle = uint64_t(1) << 62;
  ++pushed_;
  switch (schedule_) {
    case Schedule::kInOrder:
      return push(thread, kMiddle + pushed_);
    case Schedule::kReverse:
      return push(thread, kMiddle - pushed_);
    case Schedule::kRandom:
      return push(thread, random());
    case Schedule::kUnfair:
      return push(thread, uint64_t(thread->warp->priority) << 16 | (random() & 0xffff));
  }
}

void Queue::push_last(Thread* thread) { push(thread, (uint64_t(1) << 63) + ++pushed_); }

void Queue::push(Thread* thread, uint64_t key) {
  heap_.push_back({key, thread});
  std::push_heap(heap_.begin(), heap_.end());
}

Thread* Queue::pop() {
  std::pop_heap(heap_.begin(), heap_.end());
  Thread* thread = heap_.back().thread;
  heap_.pop_back();
  return thread;
}

}  // namespace cuda_sim
