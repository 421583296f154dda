// Where threads wait for each other: in a block, a grid or a warp. Each checks that those who meet
// mean the same barrier, which a GPU takes on trust.
#include <bit>

#include "threads.h"

namespace cuda_sim {
namespace {

void wait(Thread& thread, State state) {
  thread.state = state;
  thread.fiber.suspend();
}

void wake(Thread* thread) {
  thread->state = State::kReady;
  grid.ready.push(thread);
}

bool is_same(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column();
}

void check_warp(Thread& thread) {
  Warp& warp = *thread.warp;
  if (!(thread.mask >> thread.place.lane() & 1)) {
    fail("a lane is not in its own mask", thread.where);
  }
  if (thread.mask & ~warp.alive) {
    fail("the mask names lanes that have exited or never were", thread.where);
  }
  const auto agrees = [&](const Thread& other) {
    return other.mask == thread.mask && other.op == thread.op && is_same(other.where, thread.where);
  };
  if (!warp.arrived) {
    warp.first = &thread;
    warp.is_mixed = false;
  }
  warp.is_mixed |= !agrees(*warp.first);
  if (!warp.is_mixed) return;
  for (unsigned waiting = thread.mask & warp.arrived; waiting; waiting &= waiting - 1) {
    if (!agrees(*warp.lanes[std::countr_zero(waiting)])) {
      fail("lanes of a warp disagree on operation, mask or line", thread.where);
    }
  }
}

void complete(Warp& warp, WarpOp op, unsigned mask) {
  uint64_t values[32];
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    values[lane] = warp.lanes[lane]->value;
    if (op == WarpOp::kMma) warp.gathered[lane] = warp.lanes[lane]->fragments;
  }
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Thread* thread = warp.lanes[std::countr_zero(rest)];
    if (op != WarpOp::kMma && op != WarpOp::kSync) thread->value = values[thread->source];
    if (thread != self()) wake(thread);
  }
  warp.arrived &= ~mask;
}

// Until all lanes of the mask are here.
void meet_in_warp(unsigned mask, WarpOp op, const Location& where) {
  Thread& thread = *self();
  Warp& warp = *thread.warp;
  thread.mask = mask;
  thread.op = op;
  thread.where = where;
  check_warp(thread);
  warp.arrived |= 1u << thread.place.lane();
  if ((warp.arrived & mask) == mask) {
    complete(warp, op, mask);
    if (op == WarpOp::kSync) warp.order.meet();
  } else {
    wait(thread, State::kInWarp);
  }
}

}  // namespace

void sync_block(const Location& where) {
  Thread& thread = *self();
  Block& block = *thread.block;
  if (block.alive != block.threads.size()) {
    fail("__syncthreads after another thread of the block has exited", where);
  }
  if (block.arrived == 0) {
    block.first = &thread;
  } else if (!is_same(block.first->where, where)) {
    fail("divergent __syncthreads: other threads of the block wait in another", where);
  }
  const unsigned meeting = block.order.release();
  thread.where = where;
  if (++block.arrived < block.alive) {
    wait(thread, State::kInBlockBarrier);
  } else {
    block.arrived = 0;
    block.order.meet();
    draw_priorities(block);
    for (Thread* other : block.threads) wake(other);
    thread.fiber.suspend();
  }
  block.order.acquire(meeting);
}

void sync_grid(const Location& where) {
  Thread& thread = *self();
  if (!grid.cooperative) fail("grid.sync in a launch that is not cooperative", where);
  if (grid.alive != grid.threads.size()) {
    fail("grid.sync after another thread of the grid has exited", where);
  }
  const unsigned meeting = grid.order.release();
  thread.where = where;
  if (grid.arrived == 0) grid.first = &thread;
  if (++grid.arrived < grid.alive) {
    wait(thread, State::kInGridBarrier);
  } else {
    grid.arrived = 0;
    grid.order.meet();
    for (Block& block : grid.blocks) draw_priorities(block);
    for (Thread& other : grid.threads) wake(&other);
    thread.fiber.suspend();
  }
  grid.order.acquire(meeting);
}

void sync_warp(unsigned mask, const Location& where) {
  Order& order = self()->warp->order;
  const unsigned meeting = order.release();
  meet_in_warp(mask, WarpOp::kSync, where);
  if (mask == 0xffffffffu) {
    order.acquire(meeting);
  } else {
    order.acquire_all();  // lanes of another mask may have met meanwhile
  }
}

// Shuffles and products exchange values, but order no memory.
uint64_t shuffle(unsigned mask, uint64_t value, unsigned source, WarpOp op, const Location& where) {
  if (!(mask >> source & 1)) fail("shuffle from a lane that is not in the mask", where);
  Thread& thread = *self();
  thread.value = value;
  thread.source = source;
  meet_in_warp(mask, op, where);
  return thread.value;
}

const Fragments* gather(const Fragments& own, const Location& where) {
  self()->fragments = own;
  meet_in_warp(0xffffffffu, WarpOp::kMma, where);
  return self()->warp->gathered;
}

void exit_thread() {
  Thread& thread = *self();
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  const unsigned lane = 1u << thread.place.lane();
  if (block.arrived) fail("a thread exits while others of its block wait", block.first->where);
  if (grid.arrived) fail("a thread exits while others wait in grid.sync", grid.first->where);
  for (unsigned waiting = warp.arrived; waiting; waiting &= waiting - 1) {
    const Thread& other = *warp.lanes[std::countr_zero(waiting)];
    if (other.mask & lane) fail("a lane exits that others of its warp wait for", other.where);
  }
  grid.end.release();
  thread.state = State::kExited;
  warp.alive &= ~lane;
  --block.alive;
  --grid.alive;
  thread.fiber.suspend();
}

}  // namespace cuda_sim
