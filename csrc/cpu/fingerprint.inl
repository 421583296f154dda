// A number that tells the contents of memory from others.
#pragma once

#include "vec.inl"

namespace fastrnn {
namespace {

// Each 32-bit word goes into one lane, and what a lane becomes is a bijection of the word: a change
// of one word always shows. Changes of many words cancel by chance alone, once in 2^32 if they fall
// into the same lane, more seldom if into several.
uint64_t fingerprint(const void* data, int64_t bytes, uint64_t seed) {
  typedef Lanes<float>::RawBits Words;
  constexpr int kChains = 4;
  constexpr int64_t kBlock = kChains * kVectorBytes;
  Words state[kChains];
  for (int i = 0; i < kChains; ++i) state[i] = Words{} + static_cast<uint32_t>(i + 1);
  const auto mix = [&](const char* p) {
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) {
      Words words;
      __builtin_memcpy(&words, p + i * kVectorBytes, kVectorBytes);
      state[i] = (state[i] ^ words) * 0x9e3779b1u;
      state[i] ^= state[i] >> 15;
    }
  };
  const char* p = static_cast<const char*>(data);
  int64_t left = bytes;
  for (; left >= kBlock; left -= kBlock, p += kBlock) mix(p);
  if (left > 0) {
    char last[kBlock] = {};
    __builtin_memcpy(last, p, left);
    mix(last);
  }
  uint64_t result = seed ^ static_cast<uint64_t>(bytes);
  for (int i = 0; i < kChains; ++i) {
    for (int64_t lane = 0; lane < kVectorBytes / 4; ++lane) {
      result = (result ^ state[i][lane]) * 0x9e3779b97f4a7c15u;
      result ^= result >> 32;
    }
  }
  return result;
}

}  // namespace
}  // namespace fastrnn
