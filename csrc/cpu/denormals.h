// Subnormal numbers flushed to zero while kernels run: many CPUs (not Zen 3, where no difference
// was measured) take far longer for an operation on one, and the states and gradients of a network
// that forgets decay through them.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fastrnn {

// From construction to destruction the calling thread takes subnormal operands for zero and makes
// no subnormal results; then its settings are again what they were.
class FlushDenormals {
 public:
  FlushDenormals() : before_(read()) { write(before_ | kFlush); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
  ~FlushDenormals() { write(before_); }

 private:
#if defined(__x86_64__)
  typedef unsigned int Control;
  static constexpr Control kFlush = 0x8040;  // flush to zero, denormals are zero
  static Control read() { return _mm_getcsr(); }
  static void write(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__) && defined(__GNUC__)
  typedef uint64_t Control;
  static constexpr Control kFlush = 1 << 24;
  static Control read() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) { asm volatile("msr fpcr, %0" : : "r"(control)); }
#else
  typedef int Control;
  static constexpr Control kFlush = 0;
  static Control read() { return 0; }
  static void write(Control) {}
#endif

  Control before_;
};

}  // namespace fastrnn
