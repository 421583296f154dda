// The ops of one layer in one direction, `fastrnn::_layer_forward` and `fastrnn::_layer_backward`.
#include <cstring>
#include <tuple>

#include "steps.h"
#include "tensors.h"

namespace fastrnn {
namespace {

// The tensors that both ops take, checked; contiguous where the kernels need it.
struct Layer {
  Mode mode;
  Shape shape;
  bool reverse;
  Tensor input, hx;
  std::optional<Tensor> cx;
  Tensor weight_ih, weight_hh;
  std::optional<Tensor> weight_hr;
  Steps steps;
  int64_t features;  // of h

  Layer(int64_t mode_index, bool reversed, const Tensor& input_, const Tensor& hx_,
        const std::optional<Tensor>& cx_, const Tensor& weight_ih_, const Tensor& weight_hh_,
        const std::optional<Tensor>& weight_hr_, const std::optional<Tensor>& batch_sizes)
      : reverse(reversed), steps(input_, batch_sizes, hx_.dim() == 2 ? hx_.size(0) : 0) {
    mode = checked_mode(mode_index);
    check_dtype(input_);
    STD_TORCH_CHECK(hx_.dim() == 2, "hx must be (B, H), got ", hx_.dim(), " dimensions");
    const bool projects = weight_hr_.has_value() && weight_hr_->dim() == 2;
    features = hx_.size(1);
    shape = {steps.T, steps.B, input_.size(input_.dim() - 1),
             projects ? weight_hr_->size(1) : features};
    const auto [T, B, I, H] = shape;
    STD_TORCH_CHECK(features > 0 && H > 0, "hx must have H > 0");
    if (weight_hr_) check_projection(*weight_hr_, input_);
    const int64_t rows = gates(mode) * H;
    check(hx_, "hx", {B, features}, input_);
    check(weight_ih_, "weight_ih", {rows, I}, input_);
    check(weight_hh_, "weight_hh", {rows, features}, input_);
    STD_TORCH_CHECK(cx_.has_value() == has_cell_state(mode),
                    "cx must be given for LSTM and only then");
    if (cx_) check(*cx_, "cx", {B, H}, input_);
    input = with_contiguous_features(input_);
    hx = dense(hx_);
    cx = dense(cx_);
    weight_ih = dense(weight_ih_);
    weight_hh = dense(weight_hh_);
    weight_hr = dense(weight_hr_);
  }

  ScalarType dtype() const { return input.scalar_type(); }
  Timeline timeline() const { return steps.timeline(reverse); }
  int64_t reserve_size() const { return steps.capacity * shape.H * reserve_per_unit(mode); }
  Tensor none() const { return empty({0}, dtype()); }
  Tensor state(int64_t size) const { return empty({shape.B, size}, dtype()); }

  template <class T>
  Weights<T> weights(const std::optional<Tensor>& bias_ih,
                     const std::optional<Tensor>& bias_hh) const {
    return {data<T>(weight_ih), data<T>(weight_hh), data<T>(bias_ih), data<T>(bias_hh),
            data<T>(weight_hr)};
  }

 private:
  void check_projection(const Tensor& weight, const Tensor& input_) const {
    STD_TORCH_CHECK(mode == Mode::kLstm && features < shape.H,
                    "weight_hr is for LSTM, whose h it makes smaller");
    STD_TORCH_CHECK(input_.element_size() >= 4, "weight_hr must be float32 or float64");
    check(weight, "weight_hr", {features, shape.H}, input_);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_forward(
    const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& bias_ih,
    const std::optional<Tensor>& bias_hh, int64_t mode, bool reverse, bool save,
    bool bfloat16_weights, const std::optional<Tensor>& batch_sizes,
    const std::optional<Tensor>& weight_hr) {
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes);
  const auto [T, B, I, H] = layer.shape;
  STD_TORCH_CHECK(bias_ih.has_value() == bias_hh.has_value(), "give both biases or none");
  if (bias_ih) check(*bias_ih, "bias_ih", {gates(layer.mode) * H}, input);
  if (bias_hh) check(*bias_hh, "bias_hh", {gates(layer.mode) * H}, input);
  const auto dense_bias_ih = dense(bias_ih), dense_bias_hh = dense(bias_hh);
  Tensor output = layer.steps.features(layer.features, layer.dtype());
  Tensor h_n = layer.state(layer.features), c_n = layer.cx ? layer.state(H) : layer.none();
  Tensor reserve = save ? empty({layer.reserve_size()}, layer.dtype()) : layer.none();
  dispatch(layer.dtype(), [&](auto zero) {
    using Element = decltype(zero);
    LayerForward<Element> forward = {};
    forward.shape = layer.shape;
    forward.features = layer.features;
    forward.timeline = layer.timeline();
    forward.input = layer.steps.sequence<Element>(layer.input);
    forward.hx = data<Element>(layer.hx);
    forward.cx = data<Element>(layer.cx);
    forward.output = mutable_data<Element>(output);
    forward.output_stride = layer.features;
    forward.h_n = mutable_data<Element>(h_n);
    forward.c_n = mutable_data<Element>(c_n);
    forward.reserve = save ? mutable_data<Element>(reserve) : nullptr;
    run_forward(layer.mode, forward, layer.weights<Element>(dense_bias_ih, dense_bias_hh), !save,
                bfloat16_weights);
  });
  return {output, h_n, c_n, reserve};
}

// What backward can be asked for, in the order of its results; bit k of `wanted` asks for result k.
enum Wanted { kInput, kHx, kCx, kWeightIh, kWeightHh, kBiasIh, kBiasHh, kWeightHr };
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Tensor zeros(Sizes sizes, const Layer& layer) {
  Tensor tensor = empty(sizes, layer.dtype());
  if (tensor.numel() > 0)
    std::memset(tensor.mutable_data_ptr(), 0, tensor.numel() * tensor.element_size());
  return tensor;
}

// A gradient of weights, which kernels write where there are rows; empty when not wanted.
Tensor gradient(bool wanted, Sizes sizes, const Layer& layer) {
  if (!wanted) return layer.none();
  return layer.steps.rows() > 0 ? empty(sizes, layer.dtype()) : zeros(sizes, layer);
}

// The gradient of a state, that backward carries from the last step to the first.
Tensor state_gradient(const std::optional<Tensor>& grad, const char* name, int64_t size,
                      const Layer& layer) {
  if (!grad) return zeros({layer.shape.B, size}, layer);
  check(*grad, name, {layer.shape.B, size}, layer.input);
  return torch::stable::clone(dense(*grad));
}

Results layer_backward(const std::optional<Tensor>& grad_output,
                       const std::optional<Tensor>& grad_h_n, const std::optional<Tensor>& grad_c_n,
                       const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx,
                       const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& output,
                       const Tensor& reserve, int64_t mode, bool reverse, int64_t wanted,
                       const std::optional<Tensor>& batch_sizes,
                       const std::optional<Tensor>& weight_hr) {
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes);
  const auto [T, B, I, H] = layer.shape;
  const int64_t F = layer.features, rows = gates(layer.mode) * H;
  const auto wants = [&](Wanted result) { return (wanted >> result & 1) != 0; };
  layer.steps.check_features(output, "output", F, input);
  check(reserve, "reserve", {layer.reserve_size()}, input);
  if (grad_output) layer.steps.check_features(*grad_output, "grad_output", F, input);
  const Tensor outputs = dense(output), reserved = dense(reserve);
  const auto grad_outputs =
      grad_output ? std::optional(with_contiguous_features(*grad_output)) : std::nullopt;
  Tensor grad_h = state_gradient(grad_h_n, "grad_h_n", F, layer);
  Tensor grad_c = layer.cx ? state_gradient(grad_c_n, "grad_c_n", H, layer) : layer.none();
  Tensor grad_input = wants(kInput) ? layer.steps.features(I, layer.dtype()) : layer.none();
  Tensor grad_weight_ih = gradient(wants(kWeightIh), {rows, I}, layer);
  Tensor grad_weight_hh = gradient(wants(kWeightHh), {rows, F}, layer);
  Tensor grad_bias_ih = gradient(wants(kBiasIh), {rows}, layer);
  Tensor grad_bias_hh = gradient(wants(kBiasHh), {rows}, layer);
  Tensor grad_weight_hr = gradient(wants(kWeightHr), {F, H}, layer);
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
    backward.wants_grad_hx = wants(kHx);
    backward.grad_h = mutable_data<Element>(grad_h);
    backward.grad_c = mutable_data<Element>(grad_c);
    run_backward(layer.mode, backward, layer.steps.sequence<Element>(layer.input),
                 layer.weights<Element>(std::nullopt, std::nullopt),
                 {target(kInput, grad_input), target(kWeightIh, grad_weight_ih),
                  target(kWeightHh, grad_weight_hh), target(kBiasIh, grad_bias_ih),
                  target(kBiasHh, grad_bias_hh), target(kWeightHr, grad_weight_hr)});
  });
  return {grad_input,
          wants(kHx) ? grad_h : layer.none(),
          wants(kCx) && layer.cx ? grad_c : layer.none(),
          grad_weight_ih,
          grad_weight_hh,
          grad_bias_ih,
          grad_bias_hh,
          grad_weight_hr};
}

STABLE_TORCH_LIBRARY(fastrnn, m) {
  m.def(
      "_inference(Tensor input, Tensor[] states, Tensor[] weights, int mode, int num_layers, "
      "bool bidirectional, bool batch_first, bool bfloat16_weights=False, "
      "Tensor? batch_sizes=None, bool wants_output=True) -> (Tensor output, Tensor h_n, Tensor "
      "c_n)");
  m.def(
      "_layer_forward(Tensor input, Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, "
      "Tensor? bias_ih, Tensor? bias_hh, int mode, bool reverse, bool save, "
      "bool bfloat16_weights=False, Tensor? batch_sizes=None, Tensor? weight_hr=None) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor reserve)");
  m.def(
      "_layer_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor input, "
      "Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, Tensor output, Tensor reserve, "
      "int mode, bool reverse, int wanted, Tensor? batch_sizes=None, Tensor? weight_hr=None) "
      "-> (Tensor grad_input, Tensor grad_hx, Tensor grad_cx, Tensor grad_weight_ih, "
      "Tensor grad_weight_hh, Tensor grad_bias_ih, Tensor grad_bias_hh, Tensor grad_weight_hr)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("_layer_forward", TORCH_BOX(&layer_forward));
  m.impl("_layer_backward", TORCH_BOX(&layer_backward));
}

}  // namespace
}  // namespace fastrnn
