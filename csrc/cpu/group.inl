// Group<V, N>: N vectors that go through the same functions in step. One activation is a long chain
// of dependent operations, and a core looks only some 60 operations ahead: N chains side by side,
// an operation of each in turn, keep its units busy where N chains in a row would not.
#pragma once

#include "vec.inl"

namespace fastrnn {
namespace {

template <class V, int N>
struct Group {
  typedef typename V::Element Element;

  V v[N];

  Group() = default;
  FASTRNN_INLINE Group(Element x) {
    const V all(x);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) v[i] = all;
  }

  template <class Function, class... Groups>
  static FASTRNN_INLINE Group each(Function function, const Groups&... groups) {
    Group result;
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) result.v[i] = function(groups.v[i]...);
    return result;
  }

  FASTRNN_INLINE friend Group operator+(const Group& a, const Group& b) {
    return each([](V x, V y) { return x + y; }, a, b);
  }
  FASTRNN_INLINE friend Group operator-(const Group& a, const Group& b) {
    return each([](V x, V y) { return x - y; }, a, b);
  }
  FASTRNN_INLINE friend Group operator*(const Group& a, const Group& b) {
    return each([](V x, V y) { return x * y; }, a, b);
  }
  FASTRNN_INLINE friend Group operator/(const Group& a, const Group& b) {
    return each([](V x, V y) { return x / y; }, a, b);
  }
  FASTRNN_INLINE friend Group operator-(const Group& a) {
    return each([](V x) { return -x; }, a);
  }
  FASTRNN_INLINE friend Group fma(const Group& a, const Group& b, const Group& c) {
    return each([](V x, V y, V z) { return fma(x, y, z); }, a, b, c);
  }
  FASTRNN_INLINE friend Group min_keep_nan(const Group& a, const Group& limit) {
    return each([](V x, V y) { return min_keep_nan(x, y); }, a, limit);
  }
  FASTRNN_INLINE friend Group max_keep_nan(const Group& a, const Group& limit) {
    return each([](V x, V y) { return max_keep_nan(x, y); }, a, limit);
  }
  FASTRNN_INLINE friend Group step(const Group& a) {
    return each([](V x) { return step(x); }, a);
  }
  FASTRNN_INLINE friend Group zero_if_less(const Group& v, const Group& a, const Group& b) {
    return each([](V x, V y, V z) { return zero_if_less(x, y, z); }, v, a, b);
  }
  FASTRNN_INLINE friend Group abs(const Group& a) {
    return each([](V x) { return abs(x); }, a);
  }
  FASTRNN_INLINE friend Group copy_sign(const Group& positive, const Group& a) {
    return each([](V x, V y) { return copy_sign(x, y); }, positive, a);
  }
  FASTRNN_INLINE friend Group low_bits_to_exponent(const Group& a) {
    return each([](V x) { return low_bits_to_exponent(x); }, a);
  }
  FASTRNN_INLINE friend Group shift_right(const Group& a, int bits) {
    return each([bits](V x) { return shift_right(x, bits); }, a);
  }
  FASTRNN_INLINE friend Group lookup(const Element* table, const Group& place) {
    return each([table](V x) { return lookup(table, x); }, place);
  }
};

}  // namespace
}  // namespace fastrnn
