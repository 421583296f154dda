// Loads and stores that name a cache.
#pragma once

#include <cstdint>

#include "cuda_sim_thread.h"

namespace cuda_sim {

// Keeps what was read through the read-only cache; see runtime/read_only.h.
void note_read_only(const void* address, const void* value, unsigned size, const Location& where);

// A GPU faults where an address is no multiple of the access's size.
template <class T>
T* aligned(T* address, const Location& where) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T)) fail("misaligned address", where);
  return address;
}

}  // namespace cuda_sim

template <class T>
T __ldg(const T* from, const cuda_sim::Location& where = cuda_sim::Location::current()) {
  const T value = *cuda_sim::aligned(from, where);
  cuda_sim::note_read_only(from, &value, sizeof value, where);
  return value;
}
template <class T>
T __ldcg(const T* from, const cuda_sim::Location& where = cuda_sim::Location::current()) {
  return *cuda_sim::aligned(from, where);
}
template <class T>
void __stcg(T* to, T value, const cuda_sim::Location& where = cuda_sim::Location::current()) {
  *cuda_sim::aligned(to, where) = value;
}
