// Layers of a stack that run at the same time, each on one thread and some steps behind the one
// below it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <vector>

#include "wait.h"

namespace fastrnn {

class Wavefront {
 public:
  explicit Wavefront(int64_t layers) : done_(layers) {}

  // A layer for a thread that has none; as many as there are or more: none is left. They are given
  // from the lowest on, so the one below is done or under way however many threads there are.
  int64_t claim() { return claimed_.fetch_add(1, std::memory_order_relaxed); }

 private:
  friend class Pace;

  struct alignas(64) Done {
    std::atomic<int64_t> steps{0};
  };

  std::atomic<int64_t> claimed_{0};
  std::vector<Done> done_;  // of each layer
};

// A layer on its way.
class Pace {
 public:
  Pace(Wavefront& front, int64_t layer)
      : below_(layer > 0 ? &front.done_[layer - 1].steps : nullptr),
        done_(front.done_[layer].steps) {}

  // However the layer ended, the one above shall not wait for ever.
  ~Pace() { done_.store(std::numeric_limits<int64_t>::max(), std::memory_order_release); }

  // To be called before the first step: the layer reads input for `at_once` steps at a time, and
  // before the first of them it wants that of `ahead` steps.
  void begin(int64_t steps, int64_t at_once, int64_t ahead) {
    steps_ = steps, at_once_ = at_once, ahead_ = ahead;
    await_input();
  }

  // To be called after each step.
  void step() {
    done_.store(++step_, std::memory_order_release);
    if (step_ < steps_) await_input();
  }

 private:
  void await_input() {
    if (!below_) return;
    const int64_t wanted = std::min(steps_, step_ - step_ % at_once_ + ahead_);
    Wait wait(0);
    while (there_ < wanted) {
      there_ = below_->load(std::memory_order_acquire);
      if (there_ < wanted) wait.again();
    }
  }

  const std::atomic<int64_t>* const below_;
  std::atomic<int64_t>& done_;
  int64_t steps_ = 0, at_once_ = 1, ahead_ = 1, step_ = 0;
  int64_t there_ = 0;  // steps of the layer below that were done when last asked
};

}  // namespace fastrnn
