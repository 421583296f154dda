#include "team.h"

#include "wait.h"

namespace fastrnn {
namespace {

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
