// Stacks that take turns on one OS thread, with what the sanitizers want to know of it.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(CUDA_SIM_UCONTEXT)
#define CUDA_SIM_UCONTEXT
#endif
#if defined(CUDA_SIM_UCONTEXT)
#include <ucontext.h>
#endif

namespace cuda_sim {

class Fiber {
 public:
  // The next resume() calls entry, which never returns.
  void start(void (*entry)());
  // Gives the stack back, whether entry has come to its end or not.
  void drop();
  // In the host, until the fiber suspends itself.
  void resume();
  // In the fiber, until it is resumed.
  void suspend();
  // First in entry.
  void entered();

 private:
#if defined(CUDA_SIM_UCONTEXT)
  ucontext_t context_;
#else
  void* stack_pointer_ = nullptr;
#endif
  char* stack_ = nullptr;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* tsan_ = nullptr;        // ThreadSanitizer's
};

// What happened in a fiber before it released an order comes before what happens in one that
// acquires it after that. ThreadSanitizer knows of no other order between fibers.
class Order {
 public:
  // Of this meeting, whose number it returns. The next meeting has the other tag, so that a fiber
  // that hurries on to it gives nothing to one that has still to leave this.
  unsigned release();
  void acquire(unsigned meeting);
  void acquire_all() {
    acquire(0);
    acquire(1);
  }
  void meet() { ++meeting_; }

 private:
  char tags_[2] = {};
  unsigned meeting_ = 0;
};

}  // namespace cuda_sim
