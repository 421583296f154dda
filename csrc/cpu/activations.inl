// sigmoid and tanh of a vector, or of a Group of them, within 2 units in the last place.
#pragma once

#include "vec.inl"

namespace fastrnn {
namespace {

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

template <class V, int N>
FASTRNN_INLINE V polynomial(V x, const typename V::Element (&coefficients)[N]) {
  V p(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int k = N - 2; k >= 0; --k) p = fma(p, x, V(coefficients[k]));
  return p;
}

// x = n ln 2 + r with n whole and |r| <= ln(2)/2: q = expm1(r), scale = 2^(n + kShift).
template <int kShift, class V>
FASTRNN_INLINE void split_exp(V x, V& q, V& scale) {
  typedef typename V::Element T;
  typedef Constants<T> C;
  // Adding 1.5 * 2^mantissa rounds to a whole number and leaves it in the low bits; with the bias
  // of the exponent added too, these are the exponent of the scale.
  constexpr auto kMantissa = Lanes<T>::kMantissa;
  const V magic(T(int64_t(3) << (kMantissa - 1)) + T(Lanes<T>::kBias) + T(kShift));
  const V shifted = fma(x, V(T(1.44269504088896340736)), magic);
  const V n = shifted - magic;
  const V r = fma(n, V(-C::kLn2Low), fma(n, V(-C::kLn2High), x));
  q = fma(r * r, polynomial(r, C::kExpm1), r);
  scale = low_bits_to_exponent(shifted);
}

// 1 / (1 + e), e = exp(-x), as 0.5 / (0.5 + e/2): e/2 does not overflow before the result
// underflows. The 0.5 is added to the small part of the sum first, so that a large e does not
// swallow it. Below the limit e is infinite or garbage, and replaced.
template <class V>
FASTRNN_INLINE V sigmoid(V x) {
  typedef typename V::Element T;
  const V y = max_keep_nan(-x, V(T(-50)));  // at -50 e no longer counts
  V q, half_scale;
  split_exp<-1>(y, q, half_scale);
  const V half(T(0.5));
  return zero_if_less(half / (fma(half_scale, q, half) + half_scale), x,
                      V(-Constants<T>::kSigmoidLimit));
}

// 1 - 2 / (1 + exp(2|x|)) with the sign of x; for small x, where that cancels, a polynomial.
template <class V>
FASTRNN_INLINE V tanh(V x) {
  typedef typename V::Element T;
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
