// Threads that compute one recurrence together and meet after each step.
#pragma once

#include <atomic>
#include <cstdint>

namespace fastrnn {

// The work is cut into `parts`, of which each thread of torch's pool is given one or more. The pool
// does not promise that all of them run at the same time, so they come together first: when one is
// late, the work is done by one thread alone. Results are the same bits either way.
class Team {
 public:
  explicit Team(int64_t parts) : parts_(parts) {}

  enum class Role { kTogether, kAlone, kNone };

  // To be called once in each thread, with the number of parts that it was given.
  Role join(int64_t parts);

 private:
  friend class Member;

  enum State { kOpen, kTogether, kAlone };

  const int64_t parts_;
  std::atomic<int64_t> joined_{0};
  std::atomic<int> state_{kOpen};
  alignas(64) std::atomic<int64_t> arrived_{0};  // parts, over all meetings
};

// A thread of a team that works together.
class Member {
 public:
  Member(Team& team, int64_t parts) : team_(team), parts_(parts) {}

  // Waits until all members have called it as often as this one.
  void meet();

 private:
  Team& team_;
  const int64_t parts_;
  int64_t awaited_ = 0;
};

}  // namespace fastrnn
