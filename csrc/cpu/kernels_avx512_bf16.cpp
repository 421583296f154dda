// Kernels of bfloat16 for AVX512-BF16, whose products take two neighbours of a row at once. Headers
// come before the target pragma, as in kernels_avx512.cpp.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")
#endif

#include "avx512.inl"

// The kernels come after what they are made of.
#include "bf16_pairs.inl"
#include "kernels.inl"

namespace fastrnn {
namespace {
constexpr KernelTable<Bf16> kTable = make_table<Bf16>();
}
const KernelTable<Bf16>* const kAvx512Bf16Products = &kTable;
}  // namespace fastrnn

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
namespace fastrnn {
const KernelTable<Bf16>* const kAvx512Bf16Products = nullptr;
}
#endif
