// The kernels in what every machine has: 16-byte vectors, no fused multiply-add.
#include "kernels.h"

namespace fastrnn {
namespace {

constexpr char kIsaName[] = "baseline";
constexpr int kVectorBytes = 16;
constexpr bool kRowPairs = false;
constexpr int kAccumulators = 12;  // of 16 registers on x86-64
constexpr int kGroup = 2;          // vectors whose cells are computed in step (group.inl)

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

template <class Raw>
FASTRNN_INLINE void pin_raw(Raw&) {}

}  // namespace
}  // namespace fastrnn

#include "kernels.inl"

namespace fastrnn {
const Kernels* const kBaselineKernels = &kKernels;
}
