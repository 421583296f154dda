// The ops of one layer in one direction, `fastrnn::_layer_forward` and `fastrnn::_layer_backward`.
#include <cstring>
#include <tuple>

#include "cpu/run.h"
#include "layer_tensors.h"

namespace fastrnn {
namespace {

Tensor none(const Layer& layer) { return empty({0}, layer.dtype()); }

template <class T>
Weights<T> weights(const Layer& layer, const std::optional<Tensor>& bias_ih = std::nullopt,
                   const std::optional<Tensor>& bias_hh = std::nullopt) {
  return {data<T>(layer.weight_ih), data<T>(layer.weight_hh), data<T>(bias_ih),
          data<T>(bias_hh),         data<T>(layer.weight_hr), layer.vocabulary,
          data<T>(layer.embedding)};
}

Tensor state(const Layer& layer, int64_t size) {
  return empty({layer.shape.B, size}, layer.dtype());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_forward(
    const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& bias_ih,
    const std::optional<Tensor>& bias_hh, int64_t mode, bool reverse, bool save,
    bool bfloat16_weights, const std::optional<Tensor>& batch_sizes,
    const std::optional<Tensor>& weight_hr, const std::optional<Tensor>& embedding,
    const std::optional<Tensor>& mask) {
  check_on_cpu(input);
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes,
                    embedding, mask);
  const auto [T, B, I, H] = layer.shape;
  layer.check_biases(bias_ih, bias_hh);
  const auto dense_bias_ih = dense(bias_ih), dense_bias_hh = dense(bias_hh);
  Tensor output = layer.steps.features(layer.features, layer.dtype());
  Tensor h_n = state(layer, layer.features), c_n = layer.cx ? state(layer, H) : none(layer);
  Tensor reserve = save ? empty({layer.reserve_size()}, layer.dtype()) : none(layer);
  const auto ids = layer.ids();
  dispatch(layer.dtype(), [&](auto zero) {
    using Element = decltype(zero);
    LayerForward<Element> forward = {};
    forward.shape = layer.shape;
    forward.features = layer.features;
    forward.timeline = layer.timeline();
    forward.input = layer.sequence<Element>();
    forward.tokens = ids ? static_cast<const int32_t*>(*ids) : nullptr;
    forward.hx = data<Element>(layer.hx);
    forward.cx = data<Element>(layer.cx);
    forward.output = mutable_data<Element>(output);
    forward.output_stride = layer.features;
    forward.h_n = mutable_data<Element>(h_n);
    forward.c_n = mutable_data<Element>(c_n);
    forward.mask = data<Wide<Element>>(layer.mask);
    forward.reserve = save ? mutable_data<Element>(reserve) : nullptr;
    run_forward(layer.mode, forward, weights<Element>(layer, dense_bias_ih, dense_bias_hh), !save,
                bfloat16_weights);
  });
  return {output, h_n, c_n, reserve};
}

Tensor zeros(Sizes sizes, const Layer& layer) {
  Tensor tensor = empty(sizes, layer.dtype());
  if (tensor.numel() > 0)
    std::memset(tensor.mutable_data_ptr(), 0, tensor.numel() * tensor.element_size());
  return tensor;
}

// A gradient of weights, which kernels write where there are rows; empty when not wanted.
Tensor gradient(bool wanted, Sizes sizes, const Layer& layer) {
  if (!wanted) return none(layer);
  return layer.steps.rows() > 0 ? empty(sizes, layer.dtype()) : zeros(sizes, layer);
}

// The gradient of a state, that backward carries from the last step to the first.
Tensor state_gradient(const std::optional<Tensor>& grad, const char* name, int64_t size,
                      const Layer& layer) {
  if (!grad) return zeros({layer.shape.B, size}, layer);
  check(*grad, name, {layer.shape.B, size}, layer.hx);
  return torch::stable::clone(dense(*grad));
}

Results layer_backward(const std::optional<Tensor>& grad_output,
                       const std::optional<Tensor>& grad_h_n, const std::optional<Tensor>& grad_c_n,
                       const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx,
                       const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& output,
                       const Tensor& reserve, int64_t mode, bool reverse, int64_t wanted,
                       const std::optional<Tensor>& batch_sizes,
                       const std::optional<Tensor>& weight_hr,
                       const std::optional<Tensor>& embedding, const std::optional<Tensor>& mask) {
  check_on_cpu(input);
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes,
                    embedding, mask);
  const auto [T, B, I, H] = layer.shape;
  const int64_t F = layer.features, rows = gates(layer.mode) * H;
  const auto wants = [&](Wanted result) { return (wanted >> result & 1) != 0; };
  layer.check_saved(output, reserve, grad_output);
  const Tensor outputs = dense(output), reserved = dense(reserve);
  const auto grad_outputs =
      grad_output ? std::optional(with_contiguous_features(*grad_output)) : std::nullopt;
  Tensor grad_h = state_gradient(grad_h_n, "grad_h_n", F, layer);
  Tensor grad_c = layer.cx ? state_gradient(grad_c_n, "grad_c_n", H, layer) : none(layer);
  const auto ids = layer.ids();
  Tensor grad_input = wants(kInput) && !ids ? layer.steps.features(I, layer.dtype()) : none(layer);
  Tensor grad_weight_ih = gradient(wants(kWeightIh), {rows, I}, layer);
  Tensor grad_weight_hh = gradient(wants(kWeightHh), {rows, F}, layer);
  Tensor grad_bias_ih = gradient(wants(kBiasIh), {rows}, layer);
  Tensor grad_bias_hh = gradient(wants(kBiasHh), {rows}, layer);
  Tensor grad_weight_hr = gradient(wants(kWeightHr), {F, H}, layer);
  const bool to_embedding = wants(kEmbedding) && layer.embedding;
  Tensor grad_embedding = gradient(to_embedding, {layer.vocabulary, I}, layer);
  dispatch(layer.dtype(), [&](auto zero) {
    using Element = decltype(zero);
    const auto target = [&](Wanted result, const Tensor& tensor) {
      return wants(result) ? mutable_data<Element>(tensor) : nullptr;
    };
    LayerBackward<Element> backward = {};
    backward.shape = layer.shape;
    backward.features = F;
    backward.timeline = layer.timeline();
    if (grad_outputs) backward.grad_output = layer.steps.sequence<Element>(*grad_outputs);
    backward.hx = data<Element>(layer.hx);
    backward.cx = data<Element>(layer.cx);
    backward.output = data<Element>(outputs);
    backward.reserve = data<Element>(reserved);
    backward.mask = data<Wide<Element>>(layer.mask);
    backward.wants_grad_hx = wants(kHx);
    run_backward(layer.mode, backward, layer.sequence<Element>(),
                 ids ? static_cast<const int32_t*>(*ids) : nullptr, weights<Element>(layer),
                 {mutable_data<Element>(grad_h), layer.cx ? mutable_data<Element>(grad_c) : nullptr,
                  ids ? nullptr : target(kInput, grad_input), target(kWeightIh, grad_weight_ih),
                  target(kWeightHh, grad_weight_hh), target(kBiasIh, grad_bias_ih),
                  target(kBiasHh, grad_bias_hh), target(kWeightHr, grad_weight_hr),
                  to_embedding ? target(kEmbedding, grad_embedding) : nullptr});
  });
  return {grad_input,
          wants(kHx) ? grad_h : none(layer),
          wants(kCx) && layer.cx ? grad_c : none(layer),
          grad_weight_ih,
          grad_weight_hh,
          grad_bias_ih,
          grad_bias_hh,
          grad_weight_hr,
          grad_embedding};
}

STABLE_TORCH_LIBRARY(fastrnn, m) {
  m.def(
      "_inference(Tensor input, Tensor[] states, Tensor[] weights, int mode, int num_layers, "
      "bool bidirectional, bool batch_first, bool bfloat16_weights=False, "
      "Tensor? batch_sizes=None, bool wants_output=True, Tensor? embedding=None) "
      "-> (Tensor output, Tensor h_n, Tensor c_n)");
  m.def(kForwardSchema);
  m.def(kBackwardSchema);
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("_layer_forward", TORCH_BOX(&layer_forward));
  m.impl("_layer_backward", TORCH_BOX(&layer_backward));
}

}  // namespace
}  // namespace fastrnn
