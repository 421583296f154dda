// What a launch read by __ldg. The GPU's read-only cache is not kept up to date within a launch,
// so memory that is read through it must stay the same from the launch's begin to its end.
//
// A CPU sees no store of a kernel. A copy of the process, made at the launch's begin, tells what
// memory was then; this costs milliseconds a launch, so it has to be asked for. A store of the very
// value that was there goes unnoticed: fill results with NaN first.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "../cuda_sim_thread.h"

namespace cuda_sim {

class ReadOnly {
 public:
  void set(bool on) { on_ = on; }
  void begin_launch();
  void end_launch();
  void note(const void* address, const void* value, unsigned size, const Location& where);

 private:
  // 16 bytes of memory, those of them that were read, and what was read first.
  struct Line {
    uint64_t launch;
    uintptr_t address;
    unsigned read;  // one bit a byte
    unsigned char bytes[16];
    Location where;
  };
  Line& find(uintptr_t address, const Location& where);
  bool was(uintptr_t address, unsigned char (&bytes)[16]) const;

  bool on_ = false;
  uint64_t launch_ = 0;
  Line* lines_ = nullptr;  // by hash
  Line** used_ = nullptr;
  size_t n_used_ = 0;
  pid_t copy_ = 0;
  int to_copy_ = -1, from_copy_ = -1;
};

extern ReadOnly read_only;

}  // namespace cuda_sim
