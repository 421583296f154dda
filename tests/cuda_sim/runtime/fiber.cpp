#include "fiber.h"

#include <sys/mman.h>

#include <cstdlib>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CUDA_SIM_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* tag);
void __tsan_release(void* tag);
}
#endif

#if !defined(CUDA_SIM_UCONTEXT)
// Saves what a function must not change and the stack in *save, and goes on where `to` did that.
extern "C" void cuda_sim_switch(void** save, void* to);
asm(R"(.text
.globl cuda_sim_switch
.hidden cuda_sim_switch
.type cuda_sim_switch,@function
cuda_sim_switch:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
.size cuda_sim_switch,.-cuda_sim_switch
)");
#endif

namespace cuda_sim {
namespace {

constexpr size_t kStack = 256 << 10;
constexpr size_t kGuard = 4096;

struct Host {
#if defined(CUDA_SIM_UCONTEXT)
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  void* fake_stack = nullptr;
  const void* stack = nullptr;
  size_t stack_size = 0;
  void* tsan = nullptr;
};

Host host;
// What a fiber leaves for the next one. ThreadSanitizer takes milliseconds to make its part.
struct Kept {
  char* stack;
  void* tsan;
};
std::vector<Kept> kept;

Kept take() {
  Kept taken;
  if (kept.empty()) {
    void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE)) abort();
    taken = {static_cast<char*>(memory) + kGuard, nullptr};
#if defined(CUDA_SIM_TSAN)
    taken.tsan = __tsan_create_fiber(0);
#endif
  } else {
    taken = kept.back();
    kept.pop_back();
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(taken.stack, kStack);
#endif
  return taken;
}

}  // namespace

void Fiber::start(void (*entry)()) {
  const Kept taken = take();
  stack_ = taken.stack;
  tsan_ = taken.tsan;
  // Tops of stacks at the same place of every page would all share a few lines of the cache.
  static unsigned colour = 0;
  const size_t offset = colour++ % 61 * 192;
#if defined(CUDA_SIM_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kStack - offset;
  makecontext(&context_, entry, 0);
#else
  void** top = reinterpret_cast<void**>(stack_ + kStack - 72 - offset);
  *top = nullptr;  // entry's return address
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // registers
  stack_pointer_ = top;
#endif
}

void Fiber::drop() { kept.push_back({stack_, tsan_}); }

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&host.fake_stack, stack_, kStack);
#endif
#if defined(CUDA_SIM_TSAN)
  host.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_, 1);
#endif
#if defined(CUDA_SIM_UCONTEXT)
  swapcontext(&host.context, &context_);
#else
  cuda_sim_switch(&host.stack_pointer, stack_pointer_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(host.fake_stack, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, host.stack, host.stack_size);
#endif
#if defined(CUDA_SIM_TSAN)
  __tsan_switch_to_fiber(host.tsan, 1);
#endif
#if defined(CUDA_SIM_UCONTEXT)
  swapcontext(&context_, &host.context);
#else
  cuda_sim_switch(&stack_pointer_, host.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &host.stack, &host.stack_size);
#endif
}

void Fiber::entered() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &host.stack, &host.stack_size);
#endif
}

unsigned Order::release() {
#if defined(CUDA_SIM_TSAN)
  __tsan_release(&tags_[meeting_ % 2]);
#endif
  return meeting_;
}

void Order::acquire([[maybe_unused]] unsigned meeting) {
#if defined(CUDA_SIM_TSAN)
  __tsan_acquire(&tags_[meeting % 2]);
#endif
}

}  // namespace cuda_sim
