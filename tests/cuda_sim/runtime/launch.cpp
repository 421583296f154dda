// A launch: what the device would refuse, the blocks that run at once, and how it ends.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "../cuda_sim_launch.h"
#include "device.h"
#include "read_only.h"
#include "threads.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace cuda_sim {

const Place* current = nullptr;
Grid grid;

namespace {

unsigned resident_blocks = 1;
std::string message;

constexpr size_t kGuard = 64;  // bytes behind a block's shared memory that nobody writes
constexpr unsigned char kGuardByte = 0xfe;
[[maybe_unused]] constexpr unsigned long kTsanThreads = 4096;  // each takes it a megabyte

uint64_t volume(dim3 size) { return uint64_t(size.x) * size.y * size.z; }

uint3 position(uint64_t index, dim3 size) {
  return {unsigned(index % size.x), unsigned(index / size.x % size.y),
          unsigned(index / size.x / size.y)};
}

cudaError_t refuse(const cudaLaunchConfig_t& config, const void* kernel, bool cooperative) {
  const uint64_t threads = volume(config.blockDim), blocks = volume(config.gridDim);
  const dim3& size = config.gridDim;
  if (threads == 0 || threads > 1024 || config.blockDim.z > 64 || blocks == 0 || size.y > 65535 ||
      size.z > 65535) {
    return set_error(cudaErrorInvalidConfiguration,
                     "a grid of " + std::to_string(blocks) + " blocks of " +
                         std::to_string(threads) + " threads: 1 to 1024 threads, 1 or more blocks");
  }
#if defined(CUDA_SIM_TSAN)
  if (threads * blocks > kTsanThreads) {
    fprintf(stderr, "cuda_sim: ThreadSanitizer has no room for %lu threads, only for %lu\n",
            static_cast<unsigned long>(threads * blocks), kTsanThreads);
    _Exit(3);
  }
#endif
  const int allowed = device.shared_allowed(kernel);
  if (config.dynamicSmemBytes > static_cast<size_t>(allowed)) {
    return set_error(cudaErrorInvalidValue,
                     std::to_string(config.dynamicSmemBytes) +
                         " bytes of shared memory, but cudaFuncSetAttribute allowed " +
                         std::to_string(allowed));
  }
  const int at_once = device.blocks_at_once(threads, config.dynamicSmemBytes);
  if (cooperative && blocks > uint64_t(at_once) * device.multiprocessors) {
    return set_error(cudaErrorCooperativeLaunchTooLarge,
                     std::to_string(blocks) + " cooperative blocks, but the device runs " +
                         std::to_string(uint64_t(at_once) * device.multiprocessors) + " at once");
  }
  return cudaSuccess;
}

bool is_cooperative(const cudaLaunchConfig_t& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) {
      return config.attrs[i].val.cooperative != 0;
    }
  }
  return false;
}

void thread_main() {
  Thread& thread = *self();
  thread.fiber.entered();
  grid.begin.acquire_all();
  grid.run(grid.arguments);
  exit_thread();
}

// Shared memory begins as NaN, since a GPU leaves in it what was there.
void make_shared(Block& block, size_t bytes) {
  block.shared_bytes = bytes;
  block.shared =
      static_cast<unsigned char*>(aligned_alloc(128, (bytes + kGuard + 127) / 128 * 128));
  memset(block.shared, 0xff, bytes);
  memset(block.shared + bytes, kGuardByte, kGuard);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(block.shared + bytes, kGuard);
#endif
}

void free_shared(Block& block) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(block.shared + block.shared_bytes, kGuard);
#endif
  const unsigned char* guard = block.shared + block.shared_bytes;
  const bool is_whole = std::all_of(guard, guard + kGuard, [](int c) { return c == kGuardByte; });
  if (!is_whole && !grid.failed) {
    report("a write behind the end of shared memory", block.threads[0]->where);
  }
  free(block.shared);
}

void make_block(Block& block, Thread* threads, uint64_t index, const cudaLaunchConfig_t& config) {
  const unsigned count = volume(config.blockDim);
  block.warps = std::vector<Warp>((count + 31) / 32);
  block.alive = count;
  make_shared(block, config.dynamicSmemBytes);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = threads[i];
    Warp& warp = block.warps[i / 32];
    thread.place = {position(i, config.blockDim), position(index, config.gridDim), config.blockDim,
                    config.gridDim, i};
    thread.block = &block;
    thread.warp = &warp;
    thread.state = State::kReady;
    warp.lanes[i % 32] = &thread;
    warp.alive |= 1u << i % 32;
    block.threads.push_back(&thread);
    thread.fiber.start(thread_main);
  }
  draw_priorities(block);
}

void take_turns() {
  for (Thread& thread : grid.threads) grid.ready.push(&thread);
  while (!grid.failed && !grid.ready.empty()) {
    Thread* thread = grid.ready.pop();
    current = &thread->place;
    thread->fiber.resume();
  }
  current = nullptr;
  if (!grid.failed && grid.alive > 0) {
    const auto waits = [](const Thread& thread) { return thread.state != State::kExited; };
    report("deadlock: all threads wait",
           std::find_if(grid.threads.begin(), grid.threads.end(), waits)->where);
  }
}

// Blocks of these indices, at the same time, to their ends or to an error.
void run_together(const uint64_t* indices, uint64_t count, const cudaLaunchConfig_t& config) {
  const unsigned threads = volume(config.blockDim);
  grid.threads = std::vector<Thread>(count * threads);
  grid.blocks = std::vector<Block>(count);
  grid.alive = count * threads;
  grid.arrived = 0;
  grid.ready.reset(count * threads);
  for (uint64_t i = 0; i < count; ++i) {
    make_block(grid.blocks[i], &grid.threads[i * threads], indices[i], config);
  }
  grid.begin.release();
  take_turns();
  grid.end.acquire_all();
  for (Thread& thread : grid.threads) thread.fiber.drop();
  for (Block& block : grid.blocks) free_shared(block);
}

std::vector<uint64_t> order_of_blocks(uint64_t count) {
  std::vector<uint64_t> order(count);
  for (uint64_t i = 0; i < count; ++i) order[i] = i;
  if (grid.ready.schedule() == Schedule::kInOrder) return order;
  if (grid.ready.schedule() == Schedule::kReverse) {
    std::reverse(order.begin(), order.end());
    return order;
  }
  for (uint64_t i = count; i > 1; --i) std::swap(order[i - 1], order[grid.ready.random() % i]);
  return order;
}

// How many blocks of a launch run at once. ThreadSanitizer gets all of them: blocks that ran one
// after the other would share stacks, and have races only in these.
uint64_t together(uint64_t blocks) {
#if defined(CUDA_SIM_TSAN)
  return blocks;
#else
  return grid.cooperative ? blocks : std::min<uint64_t>(blocks, resident_blocks);
#endif
}

}  // namespace

void draw_priorities(Block& block) {
  if (grid.ready.schedule() != Schedule::kUnfair) return;
  // Half the time the block as a whole comes early or late, else each warp by itself.
  const uint32_t of_block = grid.ready.random(), by_itself = of_block % 2 ? ~0u : 0xffff;
  for (Warp& warp : block.warps) {
    warp.priority = (of_block & ~by_itself) | (grid.ready.random() & by_itself);
  }
}

void report(const char* what, const Location& where) {
  static const char* const kStates[] = {"could run", "wait in __syncthreads", "wait for their warp",
                                        "wait in grid.sync", "have exited"};
  grid.failed = true;
  message = std::string(what) + "\n  at " + where.file_name() + ":" + std::to_string(where.line()) +
            " in " + where.function_name();
  if (current) {
    const auto& [thread, block, block_size, grid_size, index] = *current;
    char text[128];
    snprintf(text, sizeof text, "\n  thread (%u, %u, %u) of block (%u, %u, %u)", thread.x, thread.y,
             thread.z, block.x, block.y, block.z);
    message += text;
  }
  std::map<std::string, int> groups;
  for (const Thread& thread : grid.threads) {
    const bool waits = thread.state != State::kReady && thread.state != State::kExited;
    const uint3 block = thread.place.block;
    ++groups["threads of block (" + std::to_string(block.x) + ", " + std::to_string(block.y) +
             ", " + std::to_string(block.z) + ") " + kStates[static_cast<int>(thread.state)] +
             (waits ? ", line " + std::to_string(thread.where.line()) : "")];
  }
  int lines = 0;
  for (const auto& [group, threads] : groups) {
    if (++lines <= 12) message += "\n  " + std::to_string(threads) + " " + group;
  }
#if defined(CUDA_SIM_EXIT_ON_ERROR)
  fprintf(stderr, "cuda_sim: %s\n", message.c_str());
  fflush(stdout);
  _Exit(3);
#endif
}

// In a fiber the launch ends here: the fiber is dropped, as are all others.
void fail(const char* what, const Location& where) {
  report(what, where);
  self()->fiber.suspend();
  abort();
}

unsigned char* shared_memory() { return self()->block->shared; }

// A point at which another thread may go on.
void preempt() {
  if (!current || !grid.preemption || grid.ready.random() >= grid.preemption) return;
  Thread& thread = *self();
  if (grid.ready.schedule() == Schedule::kRandom) {
    grid.ready.push(&thread);
  } else {
    grid.ready.push_last(&thread);
  }
  thread.fiber.suspend();
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(void*),
                   void* arguments) {
  clear_error();
  grid.cooperative = is_cooperative(config);
  if (const cudaError_t error = refuse(config, kernel, grid.cooperative)) return error;
  grid.failed = false;
  grid.run = thread;
  grid.arguments = arguments;
  const uint64_t blocks = volume(config.gridDim);
  const std::vector<uint64_t> order = order_of_blocks(blocks);
  const uint64_t at_once = together(blocks);
  read_only.begin_launch();
  for (uint64_t i = 0; i < blocks && !grid.failed; i += at_once) {
    run_together(&order[i], std::min(at_once, blocks - i), config);
  }
  read_only.end_launch();
  return grid.failed ? set_error(cudaErrorLaunchFailure, message) : cudaSuccess;
}

}  // namespace cuda_sim

extern "C" {

// Called at every basic block of what was compiled with -fsanitize-coverage=trace-pc.
void __sanitizer_cov_trace_pc() { cuda_sim::preempt(); }

// How threads of the launches that follow take turns: "inorder", "reverse", "random" or "unfair";
// the chance of a change at a basic block; blocks at once in a launch that is not cooperative.
// Returns 0, or 1 for a name it does not know.
int cuda_sim_schedule(const char* name, uint64_t seed, double preemption, unsigned resident) {
  static const char* const kNames[] = {"inorder", "reverse", "random", "unfair"};
  for (int i = 0; i < 4; ++i) {
    if (strcmp(name, kNames[i])) continue;
    cuda_sim::grid.ready.set(static_cast<cuda_sim::Schedule>(i), seed);
    cuda_sim::grid.preemption = static_cast<uint64_t>(preemption * 4294967296.0);
    cuda_sim::resident_blocks = std::max(1u, resident);
    return 0;
  }
  return 1;
}

}  // extern "C"
