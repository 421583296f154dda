// The threads, warps and blocks of the launch that runs.
#pragma once

#include <vector>

#include "../cuda_sim_thread.h"
#include "../cuda_sim_warp.h"
#include "fiber.h"
#include "schedule.h"

namespace cuda_sim {

enum class State : uint8_t { kReady, kInBlockBarrier, kInWarp, kInGridBarrier, kExited };

struct Block;
struct Warp;

struct Thread {
  Place place;  // first, since kernel code points to it
  Fiber fiber;
  Block* block;
  Warp* warp;
  State state;
  // Where and for what it waits.
  Location where;
  WarpOp op;
  unsigned mask, source;
  uint64_t value;
  Fragments fragments;
};

struct Warp {
  Thread* lanes[32] = {};
  unsigned alive = 0, arrived = 0;
  const Thread* first = nullptr;  // of those that have arrived
  bool is_mixed = false;          // whether they wait for different things
  uint32_t priority = 0;
  Order order;
  Fragments gathered[32];
};

struct Block {
  std::vector<Thread*> threads;
  std::vector<Warp> warps;
  unsigned alive = 0, arrived = 0;
  const Thread* first = nullptr;
  Order order;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
};

// Blocks that run at the same time, and what they share.
struct Grid {
  std::vector<Thread> threads;
  std::vector<Block> blocks;
  Queue ready;
  unsigned alive = 0, arrived = 0;
  const Thread* first = nullptr;
  bool cooperative = false, failed = false;
  Order order;         // of grid barriers
  Order begin, end;    // of the whole launch
  void (*run)(void*);  // what each thread runs
  void* arguments;
  uint64_t preemption = 0;  // of 2^32 basic blocks
};

extern Grid grid;

inline Thread* self() { return const_cast<Thread*>(reinterpret_cast<const Thread*>(current)); }

// A thread's end.
void exit_thread();
// The launch's end: the message, where each thread is, and failure.
void report(const char* what, const Location& where);
void draw_priorities(Block& block);

}  // namespace cuda_sim
