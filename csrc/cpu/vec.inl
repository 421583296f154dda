// Vec<T>: a SIMD vector of T with the functions cells.h asks for.
//
// Included once per instruction set, after its target pragma and after the file has defined
// kVectorBytes, kRowPairs and, for the vectors of float and of double: fma_raw, load_partial_raw,
// store_partial_raw, pin_raw; min_raw and max_raw, which return the second operand if either is
// NaN; with kRowPairs, broadcast_pair_raw, load_pair_raw and store_pair_raw. Everything here is
// internal to that file: code compiled for AVX-512 must never be the copy that the linker keeps for
// all.
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
  FASTRNN_INLINE friend Vec zero_if_less(Vec v, Vec a, Vec b) {
    return a.raw < b.raw ? Raw{} : v.raw;
  }
  FASTRNN_INLINE friend Vec select_less(Vec a, Vec b, Vec yes, Vec no) {
    return a.raw < b.raw ? yes.raw : no.raw;
  }
  FASTRNN_INLINE friend Vec abs(Vec a) { return (Raw)((RawBits)a.raw & ~sign_bits()); }
  FASTRNN_INLINE friend Vec copy_sign(Vec positive, Vec a) {
    return (Raw)((RawBits)positive.raw | ((RawBits)a.raw & sign_bits()));
  }
  static FASTRNN_INLINE RawBits sign_bits() { return (RawBits)(-Raw{}); }
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

// R rows of n lanes in one vector, `stride` elements apart in memory; R = 2 wants n <= kWidth / 2.
template <int R, class T>
FASTRNN_INLINE Vec<T> load_rows(const T* p, int64_t stride, int64_t n) {
  if constexpr (R == 2) {
    return load_pair_raw(p, p + stride, n);
  } else {
    return load(p, n);
  }
}

template <int R, class T>
FASTRNN_INLINE void store_rows(T* p, int64_t stride, Vec<T> v, int64_t n) {
  if constexpr (R == 2) {
    store_pair_raw(p, p + stride, v.raw, n);
  } else {
    store(p, v, n);
  }
}

// The element at p in all lanes, or in the first half the one at p, in the second that at p +
// stride.
template <int R, class T>
FASTRNN_INLINE Vec<T> broadcast_rows(const T* p, int64_t stride) {
  if constexpr (R == 2) {
    return broadcast_pair_raw(p, p + stride);
  } else {
    return Vec<T>(*p);
  }
}

// Minimax polynomials, weighted for the relative error of the function that they serve.
// kExpm1: (expm1(r) - r) / r^2 on |r| <= 1.01 ln(2)/2, to 2.6e-10 (float) and 2.9e-19 (double).
// kTanh: (tanh(x)/x - 1) / u in u = x^2 on |x| <= 0.55, to 1.0e-9 (float) and 5.8e-19 (double).
// kSigmoidLimit: above it exp(x) / 2 is infinite.
template <class T>
struct Constants;
template <>
struct Constants<float> {
  static constexpr float kExpm1[] = {0.500000004682f,   0.166666663524f,   0.0416663487103f,
                                     0.00833339163539f, 0.00139416524946f, 0.000198459589433f};
  static constexpr float kTanh[] = {-0.333333175329f, 0.133325851397f, -0.0538521963409f,
                                    0.0210711777024f, -0.00627348559682f};
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr float kSigmoidLimit = 89.06f;
};
template <>
struct Constants<double> {
  static constexpr double kExpm1[] = {
      0.50000000000000000095,    0.16666666666666677525,  0.041666666666666492447,
      0.0083333333333207380855,  0.001388888888896839202, 0.00019841269888684944727,
      0.00002480158716468698289, 2.755724136759526465e-6, 2.7557405991678309533e-7,
      2.5110110377760625766e-8,  2.0875302604446543389e-9};
  static constexpr double kTanh[] = {
      -0.33333333333333298284,    0.1333333333332659796,      -0.053968253963746955759,
      0.02186948838545387987,     -0.0088632325946709772538,  0.0035920919601710141542,
      -0.0014555423811812296681,  0.00058844252487658750674,  -0.00023337644796326439369,
      0.000083308931426793627469, -0.000019489936114611940198};
  static constexpr double kLn2High = 6.93147180369123816490e-01,
                          kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kSigmoidLimit = 710.1;
};

template <class T, int N>
FASTRNN_INLINE Vec<T> polynomial(Vec<T> x, const T (&coefficients)[N]) {
  Vec<T> p(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int k = N - 2; k >= 0; --k) p = fma(p, x, Vec<T>(coefficients[k]));
  return p;
}

// x = n ln 2 + r with n whole and |r| <= ln(2)/2: q = expm1(r), scale = 2^(n + kShift).
template <int kShift, class T>
FASTRNN_INLINE void split_exp(Vec<T> x, Vec<T>& q, Vec<T>& scale) {
  typedef Vec<T> V;
  typedef typename V::RawBits RawBits;
  typedef Constants<T> C;
  constexpr auto kMantissa = Lanes<T>::kMantissa;
  // Adding 1.5 * 2^mantissa rounds to a whole number and leaves it in the low bits.
  const V magic(T(3) * T(int64_t(1) << (kMantissa - 1)));
  const V shifted = fma(x, V(T(1.44269504088896340736)), magic);
  const V n = shifted - magic;
  const V r = fma(n, V(-C::kLn2Low), fma(n, V(-C::kLn2High), x));
  q = fma(r * r, polynomial(r, C::kExpm1), r);
  constexpr auto kBias = Lanes<T>::kBias + kShift;
  const RawBits exponent = ((RawBits)shifted.raw << kMantissa) + (kBias << kMantissa);
  scale = V((typename V::Raw)exponent);
}

// 1 / (1 + e), e = exp(-x), as 0.5 / (0.5 + e/2): e/2 does not overflow before the result
// underflows. The 0.5 is added to the small part of the sum first, so that a large e does not
// swallow it.
template <class T>
FASTRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  typedef Vec<T> V;
  const V limit(Constants<T>::kSigmoidLimit);
  const V y = max_keep_nan(min_keep_nan(-x, limit), V(T(-50)));  // at -50 e no longer counts
  V q, half_scale;
  split_exp<-1>(y, q, half_scale);
  const V half(T(0.5));
  return zero_if_less(half / (fma(half_scale, q, half) + half_scale), x, -limit);
}

// 1 - 2 / (1 + exp(2|x|)) with the sign of x; for small x, where that cancels, a polynomial.
template <class T>
FASTRNN_INLINE Vec<T> tanh(Vec<T> x) {
  typedef Vec<T> V;
  const V magnitude = abs(x);
  const V y = min_keep_nan(magnitude + magnitude, V(T(44)));  // tanh(22) is 1 in double
  V q, scale;
  split_exp<0>(y, q, scale);
  const V one(T(1));
  const V large = one - V(T(2)) / fma(scale, q, scale + one);
  const V square = x * x;
  const V small = fma(magnitude * square, polynomial(square, Constants<T>::kTanh), magnitude);
  return copy_sign(select_less(magnitude, V(T(0.55)), small, large), x);
}

}  // namespace
}  // namespace fastrnn
