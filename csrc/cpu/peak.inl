// What the vector unit can do at most: fused multiply-adds on registers alone.
#pragma once

namespace fastrnn {
namespace {

// Enough independent sums that each waits for none: two units with a latency of four need eight.
template <class T>
int64_t fma_loop(int64_t rounds, T* value) {
  typedef Vec<T> V;
  const V factor(*value), term(*value);
  V sums[kAccumulators];
#pragma GCC unroll 32
  for (int i = 0; i < kAccumulators; ++i) sums[i] = V(T(i));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kAccumulators; ++i) sums[i] = fma(sums[i], factor, term);
  }
  for (int i = 1; i < kAccumulators; ++i) sums[0] = sums[0] + sums[i];
  *value = sums[0].raw[0];  // used, so that no sum is dropped
  return rounds * kAccumulators * V::kWidth * 2;
}

}  // namespace
}  // namespace fastrnn
