#include "team.h"

#include <sched.h>

namespace fastrnn {
namespace {

// Looks at memory that another thread will write; gives the core away when that takes longer than a
// running thread would.
class Wait {
 public:
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
  const int64_t patience_;  // 0: without end
  int64_t looks_ = 0;
};

// Some 0.2 ms: longer than waking a thread takes.
constexpr int64_t kJoinPatience = 6000;

}  // namespace

Team::Role Team::join(int64_t parts) {
  if (parts == parts_) return Role::kAlone;
  int open = kOpen;
  if (joined_.fetch_add(parts, std::memory_order_acq_rel) + parts == parts_) {
    state_.compare_exchange_strong(open, kTogether);
  }
  Wait wait(kJoinPatience);
  while (state_.load(std::memory_order_acquire) == kOpen) {
    open = kOpen;
    if (!wait.again() && state_.compare_exchange_strong(open, kAlone)) return Role::kAlone;
  }
  return state_.load(std::memory_order_acquire) == kTogether ? Role::kTogether : Role::kNone;
}

void Member::meet() {
  awaited_ += team_.parts_;
  team_.arrived_.fetch_add(parts_, std::memory_order_acq_rel);
  Wait wait(0);
  while (team_.arrived_.load(std::memory_order_acquire) < awaited_) wait.again();
}

}  // namespace fastrnn
