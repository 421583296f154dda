// What the vector unit can do at most: fused multiply-adds on registers alone.
#pragma once

namespace fastrnn {
namespace {

// Enough independent sums that each waits for none: two units with a latency of four need eight.
template <class T>
int64_t fma_loop(int64_t rounds, float* value) {
  typedef Vec<Wide<T>> V;
  const V start(*value);
  Vec<Packed<T>> factor;
  __builtin_memcpy(&factor.raw, &start.raw, sizeof(factor.raw));
  V sums[kAccumulators];
#pragma GCC unroll 32
  for (int i = 0; i < kAccumulators; ++i) sums[i] = V(Wide<T>(i));
  for (int64_t round = 0; round < rounds; ++round) {
    pin_raw(factor.raw);
#pragma GCC unroll 32
    for (int i = 0; i < kAccumulators; ++i) sums[i] = fma(factor, factor, sums[i]);
  }
  for (int i = 1; i < kAccumulators; ++i) sums[0] = sums[0] + sums[i];
  *value = static_cast<float>(sums[0].raw[0]);  // used, so that no sum is dropped
  return rounds * kAccumulators * V::kWidth * 2 * kPackedElements<T>;
}

}  // namespace
}  // namespace fastrnn
