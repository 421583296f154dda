// The two ops, `fastrnn::_layer_forward` and `fastrnn::_layer_backward`: checks, allocation, calls.
// Checks here guard memory; texts equal to torch's come from Python.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>

#include "cpu/run.h"
#include "layer.h"

namespace fastrnn {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::initializer_list<int64_t>;

std::string text(const int64_t* sizes, size_t n) {
  std::string out = "(";
  for (size_t i = 0; i < n; ++i) out += (i ? ", " : "") + std::to_string(sizes[i]);
  return out + ")";
}

void check(const Tensor& tensor, const char* name, Sizes sizes, const Tensor& input) {
  const auto got = tensor.sizes();
  STD_TORCH_CHECK(got.size() == sizes.size() && std::equal(sizes.begin(), sizes.end(), got.begin()),
                  name, " must have shape ", text(sizes.begin(), sizes.size()), ", got ",
                  text(got.data(), got.size()));
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == input.scalar_type(), name,
                  " must be a CPU tensor of the input's dtype");
}

// torch's code of a dtype that kernels take; a negative number for others.
int32_t dtype_code(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return aoti_torch_dtype_float32();
    case ScalarType::Double:
      return aoti_torch_dtype_float64();
    case ScalarType::BFloat16:
      return aoti_torch_dtype_bfloat16();
    case ScalarType::Half:
      return aoti_torch_dtype_float16();
    default:
      return -1;
  }
}

Tensor empty(Sizes sizes, ScalarType dtype) {
  std::array<int64_t, 3> strides = {1, 1, 1};
  for (size_t i = sizes.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes.begin()[i];
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.begin(),
                                                         strides.data(), dtype_code(dtype),
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// The tensor itself where it is contiguous, else a contiguous copy.
Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

std::optional<Tensor> dense(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(dense(*tensor)) : std::nullopt;
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

template <class T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// A (T, B, features) tensor whose features are contiguous: itself, or a copy.
Tensor with_contiguous_features(const Tensor& tensor) {
  return tensor.stride(2) == 1 || tensor.size(2) <= 1 ? tensor : torch::stable::contiguous(tensor);
}

template <class T>
Sequence<const T> sequence(const Tensor& tensor) {
  return {data<T>(tensor), tensor.stride(0), tensor.stride(1)};
}

// The tensors that both ops take, checked; contiguous where the kernels need it.
struct Layer {
  Mode mode;
  Shape shape;
  bool reverse;
  Tensor input, hx;
  std::optional<Tensor> cx;
  Tensor weight_ih, weight_hh;

  Layer(int64_t mode_index, bool reversed, const Tensor& input_, const Tensor& hx_,
        const std::optional<Tensor>& cx_, const Tensor& weight_ih_, const Tensor& weight_hh_)
      : reverse(reversed) {
    STD_TORCH_CHECK(mode_index >= 0 && mode_index < kModes, "mode must be 0 to ", kModes - 1,
                    ", got ", mode_index);
    mode = static_cast<Mode>(mode_index);
    STD_TORCH_CHECK(input_.dim() == 3 && hx_.dim() == 2,
                    "input must be (T, B, I) and hx (B, H), got ", input_.dim(), " and ", hx_.dim(),
                    " dimensions");
    STD_TORCH_CHECK(dtype_code(input_.scalar_type()) >= 0,
                    "input must be float32, float64, bfloat16 or float16");
    shape = {input_.size(0), input_.size(1), input_.size(2), hx_.size(1)};
    const auto [T, B, I, H] = shape;
    STD_TORCH_CHECK(T > 0 && H > 0, "input and hx must have T > 0 and H > 0, got T = ", T,
                    ", H = ", H);
    const int64_t rows = gates(mode) * H;
    check(input_, "input", {T, B, I}, input_);
    check(hx_, "hx", {B, H}, input_);
    check(weight_ih_, "weight_ih", {rows, I}, input_);
    check(weight_hh_, "weight_hh", {rows, H}, input_);
    STD_TORCH_CHECK(cx_.has_value() == has_cell_state(mode),
                    "cx must be given for LSTM and only then");
    if (cx_) check(*cx_, "cx", {B, H}, input_);
    input = with_contiguous_features(input_);
    hx = dense(hx_);
    cx = dense(cx_);
    weight_ih = dense(weight_ih_);
    weight_hh = dense(weight_hh_);
  }

  ScalarType dtype() const { return input.scalar_type(); }
  int64_t reserve_size() const { return shape.T * shape.B * shape.H * reserve_per_unit(mode); }
  Tensor none() const { return empty({0}, dtype()); }
  Tensor state() const { return empty({shape.B, shape.H}, dtype()); }

  template <class T>
  Weights<T> weights(const std::optional<Tensor>& bias_ih,
                     const std::optional<Tensor>& bias_hh) const {
    return {data<T>(weight_ih), data<T>(weight_hh), data<T>(bias_ih), data<T>(bias_hh)};
  }

  // Calls body(T{}) with the C++ type of the dtype.
  template <class Body>
  void dispatch(const Body& body) const {
    switch (dtype()) {
      case ScalarType::Double:
        return body(double{});
      case ScalarType::BFloat16:
        return body(Bf16{});
      case ScalarType::Half:
        return body(Half16{});
      default:
        return body(float{});
    }
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_forward(
    const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& bias_ih,
    const std::optional<Tensor>& bias_hh, int64_t mode, bool reverse, bool save) {
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh);
  const auto [T, B, I, H] = layer.shape;
  STD_TORCH_CHECK(bias_ih.has_value() == bias_hh.has_value(), "give both biases or none");
  if (bias_ih) check(*bias_ih, "bias_ih", {gates(layer.mode) * H}, input);
  if (bias_hh) check(*bias_hh, "bias_hh", {gates(layer.mode) * H}, input);
  const auto dense_bias_ih = dense(bias_ih), dense_bias_hh = dense(bias_hh);
  Tensor output = empty({T, B, H}, layer.dtype()), h_n = layer.state();
  Tensor c_n = layer.cx ? layer.state() : layer.none();
  Tensor reserve = save ? empty({layer.reserve_size()}, layer.dtype()) : layer.none();
  layer.dispatch([&](auto zero) {
    using Element = decltype(zero);
    LayerForward<Element> forward = {};
    forward.shape = layer.shape;
    forward.direction = {layer.shape.T, layer.reverse};
    forward.input = sequence<Element>(layer.input);
    forward.hx = data<Element>(layer.hx);
    forward.cx = data<Element>(layer.cx);
    forward.output = mutable_data<Element>(output);
    forward.h_n = mutable_data<Element>(h_n);
    forward.c_n = mutable_data<Element>(c_n);
    forward.reserve = save ? mutable_data<Element>(reserve) : nullptr;
    run_forward(layer.mode, forward, layer.weights<Element>(dense_bias_ih, dense_bias_hh), !save);
  });
  return {output, h_n, c_n, reserve};
}

// What backward can be asked for, in the order of its results; bit k of `wanted` asks for result k.
enum Wanted { kInput, kHx, kCx, kWeightIh, kWeightHh, kBiasIh, kBiasHh };
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Tensor zeros(Sizes sizes, const Layer& layer) {
  Tensor tensor = empty(sizes, layer.dtype());
  if (tensor.numel() > 0)
    std::memset(tensor.mutable_data_ptr(), 0, tensor.numel() * tensor.element_size());
  return tensor;
}

// A gradient of weights, which kernels write where there are rows; empty when not wanted.
Tensor gradient(bool wanted, Sizes sizes, const Layer& layer) {
  if (!wanted) return layer.none();
  return layer.shape.B > 0 ? empty(sizes, layer.dtype()) : zeros(sizes, layer);
}

// The gradient of a state, that backward carries from the last step to the first.
Tensor state_gradient(const std::optional<Tensor>& grad, const char* name, const Layer& layer) {
  if (!grad) return zeros({layer.shape.B, layer.shape.H}, layer);
  check(*grad, name, {layer.shape.B, layer.shape.H}, layer.input);
  return torch::stable::clone(dense(*grad));
}

Results layer_backward(const std::optional<Tensor>& grad_output,
                       const std::optional<Tensor>& grad_h_n, const std::optional<Tensor>& grad_c_n,
                       const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx,
                       const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& output,
                       const Tensor& reserve, int64_t mode, bool reverse, int64_t wanted) {
  const Layer layer(mode, reverse, input, hx, cx, weight_ih, weight_hh);
  const auto [T, B, I, H] = layer.shape;
  const int64_t rows = gates(layer.mode) * H;
  const auto wants = [&](Wanted result) { return (wanted >> result & 1) != 0; };
  check(output, "output", {T, B, H}, input);
  check(reserve, "reserve", {layer.reserve_size()}, input);
  if (grad_output) check(*grad_output, "grad_output", {T, B, H}, input);
  const Tensor outputs = dense(output), reserved = dense(reserve);
  const auto grad_outputs =
      grad_output ? std::optional(with_contiguous_features(*grad_output)) : std::nullopt;
  Tensor grad_h = state_gradient(grad_h_n, "grad_h_n", layer);
  Tensor grad_c = layer.cx ? state_gradient(grad_c_n, "grad_c_n", layer) : layer.none();
  Tensor grad_input = wants(kInput) ? empty({T, B, I}, layer.dtype()) : layer.none();
  Tensor grad_weight_ih = gradient(wants(kWeightIh), {rows, I}, layer);
  Tensor grad_weight_hh = gradient(wants(kWeightHh), {rows, H}, layer);
  Tensor grad_bias_ih = gradient(wants(kBiasIh), {rows}, layer);
  Tensor grad_bias_hh = gradient(wants(kBiasHh), {rows}, layer);
  layer.dispatch([&](auto zero) {
    using Element = decltype(zero);
    const auto target = [&](Wanted result, const Tensor& tensor) {
      return wants(result) ? mutable_data<Element>(tensor) : nullptr;
    };
    LayerBackward<Element> backward = {};
    backward.shape = layer.shape;
    backward.direction = {layer.shape.T, layer.reverse};
    if (grad_outputs) backward.grad_output = sequence<Element>(*grad_outputs);
    backward.hx = data<Element>(layer.hx);
    backward.cx = data<Element>(layer.cx);
    backward.output = data<Element>(outputs);
    backward.reserve = data<Element>(reserved);
    backward.wants_grad_hx = wants(kHx);
    backward.grad_h = mutable_data<Element>(grad_h);
    backward.grad_c = mutable_data<Element>(grad_c);
    run_backward(layer.mode, backward, sequence<Element>(layer.input),
                 layer.weights<Element>(std::nullopt, std::nullopt),
                 {target(kInput, grad_input), target(kWeightIh, grad_weight_ih),
                  target(kWeightHh, grad_weight_hh), target(kBiasIh, grad_bias_ih),
                  target(kBiasHh, grad_bias_hh)});
  });
  return {grad_input,
          wants(kHx) ? grad_h : layer.none(),
          wants(kCx) && layer.cx ? grad_c : layer.none(),
          grad_weight_ih,
          grad_weight_hh,
          grad_bias_ih,
          grad_bias_hh};
}

STABLE_TORCH_LIBRARY(fastrnn, m) {
  m.def(
      "_layer_forward(Tensor input, Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, "
      "Tensor? bias_ih, Tensor? bias_hh, int mode, bool reverse, bool save) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor reserve)");
  m.def(
      "_layer_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor input, "
      "Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, Tensor output, Tensor reserve, "
      "int mode, bool reverse, int wanted) "
      "-> (Tensor grad_input, Tensor grad_hx, Tensor grad_cx, Tensor grad_weight_ih, "
      "Tensor grad_weight_hh, Tensor grad_bias_ih, Tensor grad_bias_hh)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("_layer_forward", TORCH_BOX(&layer_forward));
  m.impl("_layer_backward", TORCH_BOX(&layer_backward));
}

}  // namespace
}  // namespace fastrnn
