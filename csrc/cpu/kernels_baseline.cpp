// The kernels in what every machine has: 16-byte vectors, no fused multiply-add.
#include "kernels.h"

namespace fastrnn {
namespace {

constexpr char kIsaName[] = "baseline";
constexpr int kVectorBytes = 16;
constexpr bool kRowPairs = false;
constexpr bool kLookups = false;
constexpr int kAccumulators = 12;       // of 16 registers on x86-64
constexpr int kGroup = 2;               // vectors whose cells are computed in step (group.inl)
constexpr int64_t kGradientRows = 128;  // of a sum in registers (gemm.inl)

typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));

FASTRNN_INLINE FloatVector fma_raw(FloatVector a, FloatVector b, FloatVector c) {
  return a * b + c;
}
FASTRNN_INLINE DoubleVector fma_raw(DoubleVector a, DoubleVector b, DoubleVector c) {
  return a * b + c;
}

template <class Raw>
FASTRNN_INLINE Raw min_raw(Raw a, Raw b) {
  return a < b ? a : b;
}
template <class Raw>
FASTRNN_INLINE Raw max_raw(Raw a, Raw b) {
  return a > b ? a : b;
}

FASTRNN_INLINE FloatVector load_partial_raw(const float* p, int64_t n) {
  return FloatVector{p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0};
}
FASTRNN_INLINE DoubleVector load_partial_raw(const double* p, int64_t) {
  return DoubleVector{p[0], 0};
}
template <class Raw, class T>
FASTRNN_INLINE void store_partial_raw(T* p, Raw v, int64_t n) {
  for (int64_t lane = 0; lane < n; ++lane) p[lane] = v[lane];
}

// float16 by arithmetic on 32-bit lanes. No step has a subnormal float32 as operand or result.
typedef int32_t WordVector __attribute__((vector_size(kVectorBytes)));
typedef uint16_t HalfVector __attribute__((vector_size(kVectorBytes / 2)));
constexpr int32_t kExponentShift = (127 - 15) << 23;  // between the biases of the two formats

FASTRNN_INLINE FloatVector load_f16_raw(const Half16* p) {
  HalfVector half;
  __builtin_memcpy(&half, p, sizeof(half));
  const WordVector bits = __builtin_convertvector(half, WordVector);
  const WordVector magnitude = bits & 0x7fff, sign = (bits & 0x8000) << 16;
  const WordVector normal = (magnitude << 13) + kExponentShift;
  const WordVector infinite = normal + kExponentShift;  // and NaN
  const WordVector subnormal =
      (WordVector)(__builtin_convertvector(magnitude, FloatVector) * 0x1p-24f);
  return (FloatVector)(sign | (magnitude < 0x0400   ? subnormal
                               : magnitude < 0x7c00 ? normal
                                                    : infinite));
}
FASTRNN_INLINE void store_f16_raw(Half16* p, FloatVector v) {
  const WordVector bits = (WordVector)v, magnitude = bits & 0x7fffffff;
  const WordVector normal = (magnitude - kExponentShift + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // In [0.5, 1) the last place of float32 is the smallest float16.
  const WordVector subnormal = (WordVector)((FloatVector)magnitude + 0.5f) - 0x3f000000;
  const WordVector nan = (magnitude >> 13 & 0x3ff) | 0x7e00;
  constexpr int32_t kSmallestNormal = 0x38800000, kPowerAboveAll = 0x47800000;
  const WordVector infinite = WordVector{} + 0x7c00;
  const WordVector half = magnitude < kSmallestNormal  ? subnormal
                          : magnitude < kPowerAboveAll ? normal
                          : magnitude <= 0x7f800000    ? infinite
                                                       : nan;
  const HalfVector stored = __builtin_convertvector(half | (bits >> 16 & 0x8000), HalfVector);
  __builtin_memcpy(p, &stored, sizeof(stored));
}

// Vectors are one piece of 16 bytes.
FASTRNN_INLINE FloatVector even_raw(FloatVector a, FloatVector b) {
  return FloatVector{a[0], a[2], b[0], b[2]};
}
FASTRNN_INLINE DoubleVector even_raw(DoubleVector a, DoubleVector b) {
  return DoubleVector{a[0], b[0]};
}
FASTRNN_INLINE FloatVector odd_raw(FloatVector a, FloatVector b) {
  return FloatVector{a[1], a[3], b[1], b[3]};
}
FASTRNN_INLINE DoubleVector odd_raw(DoubleVector a, DoubleVector b) {
  return DoubleVector{a[1], b[1]};
}

template <class Raw>
FASTRNN_INLINE void pin_raw(Raw&) {}

}  // namespace
}  // namespace fastrnn

#include "all_kernels.inl"

namespace fastrnn {
const Kernels* const kBaselineKernels = &kKernels;
}
