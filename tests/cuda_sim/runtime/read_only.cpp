#include "read_only.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "../cuda_sim_memory.h"
#include "threads.h"

namespace cuda_sim {
namespace {

constexpr size_t kLines = size_t(1) << 20;
constexpr char kStale[] = "stale read-only cache: memory read by __ldg changes in the same launch";

// Memory that costs nothing until it is used.
void* reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

// Answers with the 16 bytes at each address asked for, as they were at the fork.
[[noreturn]] void answer(int from, int to) {
  const void* address;
  while (read(from, &address, sizeof address) == sizeof address) {
    if (write(to, address, 16) != 16) break;
  }
  _exit(0);
}

}  // namespace

ReadOnly read_only;

void ReadOnly::begin_launch() {
  if (!on_) return;
  if (!lines_) {
    lines_ = static_cast<Line*>(reserve(kLines * sizeof(Line)));
    used_ = static_cast<Line**>(reserve(kLines / 2 * sizeof(Line*)));
  }
  ++launch_;
  n_used_ = 0;
  int request[2], reply[2];
  if (pipe(request) || pipe(reply)) abort();
  copy_ = fork();
  if (copy_ < 0) abort();
  if (copy_ == 0) {
    close(request[1]);
    close(reply[0]);
    answer(request[0], reply[1]);
  }
  close(request[0]);
  close(reply[1]);
  to_copy_ = request[1];
  from_copy_ = reply[0];
}

// The line of an address, which has no bytes if it is new.
ReadOnly::Line& ReadOnly::find(uintptr_t address, const Location& where) {
  size_t slot = (address / 16 * 0x9e3779b97f4a7c15u >> 40) % kLines;
  while (lines_[slot].launch == launch_ && lines_[slot].address != address) {
    slot = (slot + 1) % kLines;
  }
  Line& line = lines_[slot];
  if (line.launch != launch_) {
    if (n_used_ == kLines / 2) fail("__ldg reads more memory than can be checked", where);
    used_[n_used_++] = &line;
    line.launch = launch_;
    line.address = address;
    line.read = 0;
    line.where = where;
  }
  return line;
}

void ReadOnly::note(const void* from, const void* value, unsigned size, const Location& where) {
  if (!on_) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(from);
  Line& line = find(address / 16 * 16, where);
  const auto* now = static_cast<const unsigned char*>(value);
  for (unsigned i = 0; i < size; ++i) {
    const unsigned at = address % 16 + i;
    if (line.read >> at & 1 && line.bytes[at] != now[i]) fail(kStale, where);
    line.bytes[at] = now[i];
    line.read |= 1u << at;
  }
}

bool ReadOnly::was(uintptr_t address, unsigned char (&bytes)[16]) const {
  return write(to_copy_, &address, sizeof address) == sizeof address &&
         read(from_copy_, bytes, sizeof bytes) == sizeof bytes;
}

void ReadOnly::end_launch() {
  if (!on_) return;
  for (size_t i = 0; i < n_used_ && !grid.failed; ++i) {
    const Line& line = *used_[i];
    unsigned char before[16];
    if (!was(line.address, before)) report("the copy of the process has ended", line.where);
    const auto* now = reinterpret_cast<const unsigned char*>(line.address);
    for (unsigned at = 0; at < 16 && !grid.failed; ++at) {
      if (!(line.read >> at & 1)) continue;
      if (line.bytes[at] != before[at] || line.bytes[at] != now[at]) report(kStale, line.where);
    }
  }
  close(to_copy_);
  close(from_copy_);
  waitpid(copy_, nullptr, 0);
}

void note_read_only(const void* address, const void* value, unsigned size, const Location& where) {
  read_only.note(address, value, size, where);
}

}  // namespace cuda_sim

// Whether launches that follow check what they read by __ldg.
extern "C" void cuda_sim_check_read_only(int on) { cuda_sim::read_only.set(on != 0); }
