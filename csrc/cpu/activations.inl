// sigmoid and tanh of a vector, or of a Group of them, within 2 units in the last place.
#pragma once

#include "tanh_table.inl"

namespace fastrnn {
namespace {

// kExpm1: minimax polynomial for (expm1(r) - r) / r^2 on [-0.351, 0.453], to 6.8e-9 (float) and
// 1.5e-17 (double) of its value, which is that much less of expm1(r) as r is less than 1.
// kSigmoidLimit: above it exp(x) / 2 is infinite.
template <class T>
struct Constants;
template <>
struct Constants<float> {
  static constexpr float kExpm1[] = {0.500000002363f,   0.166666703782f,   0.0416663941771f,
                                     0.00833205724248f, 0.00139392674406f, 0.000207084327563f};
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  static constexpr float kSigmoidLimit = 89.06f;
};
template <>
struct Constants<double> {
  static constexpr double kExpm1[] = {
      0.499999999999999992795,     0.166666666666666695284,      0.0416666666666694015154,
      0.00833333333332887687355,   0.00138888888872307338711,    0.00019841269864241765215,
      0.0000248015908395309358814, 0.00000275572688273742737995, 2.75542038945538832711e-7,
      2.50998982233903404235e-8,   2.18607099882918895138e-9};
  static constexpr double kLn2High = 6.93147180369123816490e-1,
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

// x = n ln 2 + r with n the whole number nearest to `near` / ln 2: q = expm1(r), scale = 2^(n +
// kShift).
template <int kShift, class V>
FASTRNN_INLINE void split_exp(V x, V near, V& q, V& scale) {
  typedef typename V::Element T;
  typedef Constants<T> C;
  // Adding 1.5 * 2^mantissa rounds to a whole number and leaves it in the low bits; with the bias
  // of the exponent added too, these are the exponent of the scale.
  constexpr auto kMantissa = Lanes<T>::kMantissa;
  const V magic(T(int64_t(3) << (kMantissa - 1)) + T(Lanes<T>::kBias) + T(kShift));
  const V shifted = fma(near, V(T(1.44269504088896340736)), magic);
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
  split_exp<-1>(y, y, q, half_scale);
  const V half(T(0.5));
  return zero_if_less(half / (fma(half_scale, q, half) + half_scale), x,
                      V(-Constants<T>::kSigmoidLimit));
}

// h / (1 + h) with h = expm1(2|x|) / 2, and the sign of x. The rounding of 1 + h counts where h is
// small; it is known, and taken back. Where h is large that overshoots by a unit, to above one. n
// is 0 a little longer than it is nearest: the error of expm1(r) counts most where n becomes 1.
template <class V>
FASTRNN_INLINE V tanh(V x) {
  typedef typename V::Element T;
  if constexpr (kLookups && sizeof(T) == sizeof(float)) return tanh_by_table(x);
  const V one(T(1)), magnitude = abs(x);
  const V y = min_keep_nan(magnitude + magnitude, V(T(44)));  // tanh(22) is 1 in double
  V q, half_scale;
  split_exp<-1>(y, y - V(T(0.105)), q, half_scale);
  const V h = fma(half_scale, q, half_scale - V(T(0.5))), sum = one + h, quotient = h / sum;
  const V rounding = h - (sum - one);
  const V corrected = fma(-(quotient * rounding), one - quotient, quotient);
  return copy_sign(min_keep_nan(corrected, one), x);
}

}  // namespace
}  // namespace fastrnn
