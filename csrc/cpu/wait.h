// A thread that waits for another one's word in memory.
#pragma once

#include <sched.h>

#include <cstdint>

namespace fastrnn {

// Between two looks at memory that another thread will write; gives the core away when that takes
// longer than a running thread would.
class Wait {
 public:
  // patience: looks, or 0 for no end of it.
  explicit Wait(int64_t patience) : patience_(patience) {}

  // False when patience has run out.
  bool again() {
    if (++looks_ > kSpins) {
      sched_yield();
    } else {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
    return patience_ == 0 || looks_ < patience_;
  }

 private:
  static constexpr int64_t kSpins = 2000;
  const int64_t patience_;
  int64_t looks_ = 0;
};

}  // namespace fastrnn
