// A layer on the CPU: plan, pack, and the kernels over torch's threads.
#pragma once

#include "../layer.h"
#include "wavefront.h"

namespace fastrnn {

template <class T>
struct Weights {
  const T *weight_ih, *weight_hh;  // (G*H, I), (G*H, features of h)
  const T *bias_ih, *bias_hh;      // (G*H), or both null
  const T* weight_hr;              // projection (features of h, H), or null
  // Where the input is tokens: how many there are, and their features (vocabulary, I); null for
  // one-hot vectors, of which I is the number.
  int64_t vocabulary;
  const T* embedding;
};

// Where gradients go; null: not wanted. Biases have gradients of (G*H).
template <class T>
struct Gradients {
  // (B, features) and (B, H): of the states after the last step in, before the first step out.
  T *hx, *cx;  // cx: null without it
  T *input, *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_hr, *embedding;
};

// The caller fills shape, direction and the pointers to input or tokens, states, output and
// reserve; tokens are ids then. There are none with a type that is only stored.
// keep_packed: the weights may well come again as they are, as in inference. bfloat16_weights:
// hidden ones of float32 may be rounded to that type where this is faster. pace: of a layer that
// runs beside others (plan.h, layers_at_once), on this thread alone; its output is not null.
template <class T>
void run_forward(Mode mode, const LayerForward<T>& layer, const Weights<T>& weights,
                 bool keep_packed, bool bfloat16_weights, Pace* pace = nullptr);

// The caller fills shape, direction and the pointers to states, output, reserve and gradients.
// tokens: the ids of forward, or null.
template <class T>
void run_backward(Mode mode, const LayerBackward<T>& layer, const Sequence<const T>& input,
                  const int32_t* tokens, const Weights<T>& weights, const Gradients<T>& gradients);

}  // namespace fastrnn
