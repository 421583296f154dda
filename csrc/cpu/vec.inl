// Vec<T>: a SIMD vector of T with the functions cells.h asks for.
//
// Included once per instruction set, after its target pragma and after the file has defined
// kVectorBytes and, for the vectors of float and of double: fma_raw, load_partial_raw,
// store_partial_raw, pin_raw, and min_raw and max_raw that return the second operand if either is NaN. Everything here is internal to that file: code compiled for AVX-512 must never be the copy
// that the linker keeps for all.
#pragma once

namespace fastrnn {
namespace {

// Written out per type: GCC drops a vector_size that depends on a template parameter.
template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Raw __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t RawBits __attribute__((vector_size(kVectorBytes)));
  static constexpr uint32_t kMantissa = 23, kBias = 127;
};
template <>
struct Lanes<double> {
  typedef double Raw __attribute__((vector_size(kVectorBytes)));
  typedef uint64_t RawBits __attribute__((vector_size(kVectorBytes)));
  static constexpr uint64_t kMantissa = 52, kBias = 1023;
};

// A class, not the bare vector type: argument-dependent lookup must find tanh(Vec) from cells.h.
template <class T>
struct Vec {
  typedef typename Lanes<T>::Raw Raw;
  typedef typename Lanes<T>::RawBits RawBits;
  static constexpr int64_t kWidth = kVectorBytes / sizeof(T);

  Raw raw;

  Vec() = default;
  FASTRNN_INLINE Vec(Raw r) : raw(r) {}
  FASTRNN_INLINE Vec(T x) : raw(x - Raw{}) {}  // x - 0 keeps the sign of a zero, 0 + x does not

  FASTRNN_INLINE friend Vec operator+(Vec a, Vec b) { return a.raw + b.raw; }
  FASTRNN_INLINE friend Vec operator-(Vec a, Vec b) { return a.raw - b.raw; }
  FASTRNN_INLINE friend Vec operator*(Vec a, Vec b) { return a.raw * b.raw; }
  FASTRNN_INLINE friend Vec operator/(Vec a, Vec b) { return a.raw / b.raw; }
  FASTRNN_INLINE friend Vec operator-(Vec a) { return -a.raw; }
  FASTRNN_INLINE friend Vec fma(Vec a, Vec b, Vec c) { return fma_raw(a.raw, b.raw, c.raw); }
  FASTRNN_INLINE friend Vec min_keep_nan(Vec a, Vec limit) { return min_raw(limit.raw, a.raw); }
  FASTRNN_INLINE friend Vec max_keep_nan(Vec a, Vec limit) { return max_raw(limit.raw, a.raw); }
  FASTRNN_INLINE friend Vec step(Vec a) { return a.raw <= Raw{} ? Raw{} : Vec(T(1)).raw; }
};

template <class T>
FASTRNN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v.raw, p, sizeof(v.raw));
  return v;
}

template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v.raw, sizeof(v.raw));
}

// The first n lanes, n >= 1; lanes from n on are zero, memory behind them is not touched.
template <class T>
FASTRNN_INLINE Vec<T> load(const T* p, int64_t n) {
  return n >= Vec<T>::kWidth ? load(p) : Vec<T>(load_partial_raw(p, n));
}

template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v, int64_t n) {
  if (n >= Vec<T>::kWidth) {
    store(p, v);
  } else {
    store_partial_raw(p, v.raw, n);
  }
}

// Minimax coefficients of (expm1(r) - r) / r^2 on |r| <= 1.01 ln(2)/2, weighted for the relative error
// of expm1: 2.6e-10 (float) and 2.9e-19 (double), by the Remez exchange.
template <class T>
struct Expm1;
template <>
struct Expm1<float> {
  static constexpr int kDegree = 5;
  static constexpr float kCoefficients[] = {0.500000004682f,   0.166666663524f,   0.0416663487103f,
                                            0.00833339163539f, 0.00139416524946f, 0.000198459589433f};
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr float kSigmoidLimit = 89.5f;
};
template <>
struct Expm1<double> {
  static constexpr int kDegree = 10;
  static constexpr double kCoefficients[] = {
      0.50000000000000000095,    0.16666666666666677525,    0.041666666666666492447,
      0.0083333333333207380855,  0.001388888888896839202,   0.00019841269888684944727,
      0.00002480158716468698289, 2.755724136759526465e-6,   2.7557405991678309533e-7,
      2.5110110377760625766e-8,  2.0875302604446543389e-9};
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kSigmoidLimit = 710.5;
};

// x = n ln 2 + r with n whole and |r| <= ln(2)/2: q = expm1(r), scale = 2^(n + kShift).
template <int kShift, class T>
FASTRNN_INLINE void split_exp(Vec<T> x, Vec<T>& q, Vec<T>& scale) {
  typedef Vec<T> V;
  typedef typename V::RawBits RawBits;
  typedef Expm1<T> E;
  constexpr auto kMantissa = Lanes<T>::kMantissa;
  // Adding 1.5 * 2^mantissa rounds to a whole number and leaves it in the low bits.
  const V magic(T(3) * T(int64_t(1) << (kMantissa - 1)));
  const V shifted = fma(x, V(T(1.44269504088896340736)), magic);
  const V n = shifted - magic;
  const V r = fma(n, V(-E::kLn2Low), fma(n, V(-E::kLn2High), x));
  V p(E::kCoefficients[E::kDegree]);
#pragma GCC unroll 16
  for (int k = E::kDegree - 1; k >= 0; --k) p = fma(p, r, V(E::kCoefficients[k]));
  q = fma(r * r, p, r);
  constexpr auto kBias = Lanes<T>::kBias + kShift;
  const RawBits exponent = ((RawBits)shifted.raw << kMantissa) + (kBias << kMantissa);
  scale = V((typename V::Raw)exponent);
}

// 1 / (1 + e), e = exp(-x), as 0.5 / (0.5 + e/2): e/2 does not overflow before the result underflows.
template <class T>
FASTRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  typedef Vec<T> V;
  // At the upper limit e/2 is infinite and the result 0; at the lower one e no longer counts.
  const V y = max_keep_nan(min_keep_nan(-x, V(Expm1<T>::kSigmoidLimit)), V(T(-50)));
  V q, half_scale;
  split_exp<-1>(y, q, half_scale);
  const V half(T(0.5));
  return half / fma(half_scale, q + V(T(1)), half);
}

// m / (m + 2) with m = expm1(2|x|), and the sign of x: exact for small x, where 2*sigmoid(2x) - 1 fails.
template <class T>
FASTRNN_INLINE Vec<T> tanh(Vec<T> x) {
  typedef Vec<T> V;
  typedef typename V::RawBits RawBits;
  typedef typename V::Raw Raw;
  const RawBits sign = (RawBits)(-Raw{});
  const V magnitude = V((Raw)((RawBits)x.raw & ~sign));
  const V y = min_keep_nan(magnitude + magnitude, V(T(44)));  // tanh(22) is 1 in double
  V q, scale;
  split_exp<0>(y, q, scale);
  const V m = fma(scale, q, scale - V(T(1)));
  const V result = m / (m + V(T(2)));
  return V((Raw)((RawBits)result.raw | ((RawBits)x.raw & sign)));
}

}  // namespace
}  // namespace fastrnn
