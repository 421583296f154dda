// The kernels for AVX-512F. Headers come before the target pragma: what they define must stay
// baseline code. GCC does not define __AVX512F__ after the pragma, so the width is said here.
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

namespace fastrnn {
namespace {

constexpr char kIsaName[] = "avx512";

}  // namespace
}  // namespace fastrnn

#include "avx512.inl"

// The kernels come after what they are made of.
#include "all_kernels.inl"

namespace fastrnn {
const Kernels* const kAvx512Kernels = &kKernels;
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
namespace fastrnn {
const Kernels* const kAvx512Kernels = nullptr;
}
#endif
