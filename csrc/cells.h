// The gate maths of the cells, forward and backward: the only place it is written.
//
// A cell without a state of its own (kStates = 1) reads the previous h in forward and backward, and
// h in backward; the LSTM reads neither, so that h may be projected to fewer features.
//
// A cell turns the S = kSums pre-activations of one hidden unit into its new state. `V` is whatever
// the caller computes with (a SIMD vector, a float, a double); it needs + - * /, fma(a, b, c) =
// a*b+c, sigmoid and tanh found by argument-dependent lookup. Every a*b+c is spelled fma, so that a
// row gets the same bits whichever tile, thread or tail computes it.
//
// The input product (weight_ih x) feeds sums [0, kGates), the hidden product (weight_hh h) feeds
// sums [kSums - kGates, kSums). They coincide except for GRU, whose reset gate acts on the hidden
// product of n alone (torch and cuDNN apply it after the matrix product, unlike Cho et al. 2014);
// its sums are n of the input, r, z, n of the hidden state. Hence both products are contiguous
// ranges of the sums.
#pragma once

#include "layer.h"

namespace fastrnn {

struct Tanh {
  template <class V>
  FASTRNN_INLINE static V value(V x) {
    return tanh(x);
  }
  // The derivative in terms of the value y = tanh(x).
  template <class V>
  FASTRNN_INLINE static V slope(V y) {
    return fma(-y, y, V(1));
  }
};

struct Sigmoid {
  template <class V>
  FASTRNN_INLINE static V slope(V y) {
    return y * (V(1) - y);
  }
};

struct Relu {
  template <class V>
  FASTRNN_INLINE static V value(V x) {
    return max_keep_nan(x, V(0));
  }
  template <class V>
  FASTRNN_INLINE static V slope(V y) {
    return step(y);
  }
};

// h = activation(sum); Elman 1990.
template <class Activation>
struct Elman {
  static constexpr int kGates = gates(Mode::kRnnTanh), kSums = sums(Mode::kRnnTanh), kStates = 1,
                       kSaved = reserve_per_unit(Mode::kRnnTanh);

  // state: h_prev in, h out.
  template <class V>
  FASTRNN_INLINE static void forward(const V* sum, V* state, V*) {
    state[0] = Activation::value(sum[0]);
  }

  // saved and prev_state are what forward saw, h what it returned. grad_state: gradient of the new
  // state in; gradient of the previous state out, less what flows back through the hidden product.
  template <class V>
  FASTRNN_INLINE static void backward(const V*, const V*, V h, V* grad_state, V* grad_sum) {
    grad_sum[0] = grad_state[0] * Activation::slope(h);
    grad_state[0] = V(0);
  }
};

// Gates i, f, g, o; states h, c; Hochreiter and Schmidhuber 1997 with forget gate, as
// torch.nn.LSTM.
struct Lstm {
  static constexpr int kGates = gates(Mode::kLstm), kSums = sums(Mode::kLstm), kStates = 2,
                       kSaved = reserve_per_unit(Mode::kLstm);

  template <class V>
  FASTRNN_INLINE static void forward(const V* sum, V* state, V* saved) {
    const V i = sigmoid(sum[0]), f = sigmoid(sum[1]), g = tanh(sum[2]), o = sigmoid(sum[3]);
    const V c = fma(f, state[1], i * g);
    state[0] = o * tanh(c);
    state[1] = c;
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o, saved[4] = c;
  }

  // h before its projection, of what forward saved.
  template <class V>
  FASTRNN_INLINE static V hidden(const V* saved) {
    return saved[3] * tanh(saved[4]);
  }

  template <class V>
  FASTRNN_INLINE static void backward(const V* saved, const V* prev_state, V, V* grad_state,
                                      V* grad_sum) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3], tanh_c = tanh(saved[4]);
    const V grad_c = fma(grad_state[0] * o, Tanh::slope(tanh_c), grad_state[1]);
    grad_sum[0] = grad_c * g * Sigmoid::slope(i);
    grad_sum[1] = grad_c * prev_state[1] * Sigmoid::slope(f);
    grad_sum[2] = grad_c * i * Tanh::slope(g);
    grad_sum[3] = grad_state[0] * tanh_c * Sigmoid::slope(o);
    grad_state[0] = V(0);
    grad_state[1] = grad_c * f;
  }
};

// Gates r, z, n; Cho et al. 2014 with the reset gate after the matrix product, as torch.nn.GRU.
struct Gru {
  static constexpr int kGates = gates(Mode::kGru), kSums = sums(Mode::kGru), kStates = 1,
                       kSaved = reserve_per_unit(Mode::kGru);

  template <class V>
  FASTRNN_INLINE static void forward(const V* sum, V* state, V* saved) {
    const V r = sigmoid(sum[1]), z = sigmoid(sum[2]);
    const V n = tanh(fma(r, sum[3], sum[0]));
    state[0] = fma(z, state[0] - n, n);
    saved[0] = r, saved[1] = z, saved[2] = n, saved[3] = sum[3];
  }

  template <class V>
  FASTRNN_INLINE static void backward(const V* saved, const V* prev_state, V, V* grad_state,
                                      V* grad_sum) {
    const V r = saved[0], z = saved[1], n = saved[2], n_hidden = saved[3];
    const V grad_h = grad_state[0];
    const V grad_n = grad_h * (V(1) - z) * Tanh::slope(n);
    grad_sum[0] = grad_n;
    grad_sum[1] = grad_n * n_hidden * Sigmoid::slope(r);
    grad_sum[2] = grad_h * (prev_state[0] - n) * Sigmoid::slope(z);
    grad_sum[3] = grad_n * r;
    grad_state[0] = grad_h * z;
  }
};

}  // namespace fastrnn
