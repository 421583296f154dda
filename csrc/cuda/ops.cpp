// The ops of one layer for tensors on a GPU: the kernels do the recurrence, torch's matrix product
// all that has no order in time.
//
// The tests build this file with FASTRNN_CUDA_SIM and run it on CPU tensors, as the ops
// fastrnn_sim::_layer_forward and fastrnn_sim::_layer_backward.
#include <torch/csrc/stable/accelerator.h>

#include <stdexcept>

#include "../layer_tensors.h"
#include "launch.h"

namespace fastrnn::cuda {
namespace {

#if defined(FASTRNN_CUDA_SIM)
constexpr bool kSimulated = true;
#else
constexpr bool kSimulated = false;
#endif

// The device of a call: current while this lives, and its current stream.
class Device {
 public:
  explicit Device(const Tensor& input) {
    STD_TORCH_CHECK(kSimulated ? input.is_cpu() : input.is_cuda(),
                    "input must be on a GPU, as the other tensors are");
    if (kSimulated) return;
    namespace accelerator = torch::stable::accelerator;
    index_ = input.get_device_index();
    guard_.emplace(index_);
    stream_ = static_cast<cudaStream_t>(accelerator::getCurrentStream(index_).nativeHandle());
  }

  cudaStream_t stream() const { return stream_; }

  DeviceLimits limits() const {
    return {attribute(cudaDevAttrMultiProcessorCount),
            attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
            10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                attribute(cudaDevAttrComputeCapabilityMinor)};
  }

 private:
  int attribute(cudaDeviceAttr which) const {
    int value = 0;
    const cudaError_t error = cudaDeviceGetAttribute(&value, which, index_);
    STD_TORCH_CHECK(error == cudaSuccess, "CUDA device ", index_,
                    " does not answer: ", cudaGetErrorString(error));
    return value;
  }

  int32_t index_ = 0;
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  cudaStream_t stream_ = nullptr;
};

// A layer, and the arrays of it that kernels want beside its tensors.
class Call {
 public:
  const Layer layer;
  const Device device;

  // `tensors` as Layer takes them.
  template <class... Tensors>
  explicit Call(const Tensor& input, const Tensors&... tensors)
      : layer(tensors...), device(input), timeline_(layer.timeline()) {
    STD_TORCH_CHECK(!layer.weight_hr, "there is no CUDA kernel with weight_hr");
    STD_TORCH_CHECK(layer.vocabulary == 0, "there is no CUDA kernel with ids");
    STD_TORCH_CHECK(!layer.mask, "there is no CUDA kernel with mask");
    const auto& offsets = layer.steps.offsets();
    if (offsets.empty()) return;
    const int64_t size = offsets.size(), stride = 1;
    AtenTensorHandle handle;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(
        const_cast<int64_t*>(offsets.data()), 1, &size, &stride, 0, aoti_torch_dtype_int64(),
        aoti_torch_device_type_cpu(), 0, &handle));
    offsets_ = torch::stable::new_empty(input, {size}, ScalarType::Long);
    torch::stable::copy_(*offsets_, Tensor(handle));
    timeline_.offsets = data<int64_t>(*offsets_);
  }

  const Timeline& timeline() const { return timeline_; }
  bool is_empty() const { return layer.steps.rows() == 0; }
  int64_t rows() const { return layer.steps.rows(); }

  Tensor array(Sizes sizes) const { return torch::stable::new_empty(layer.input, sizes); }
  // `n` features for each row, zeros where a packed array has unused rows.
  Tensor features(int64_t n) const {
    const Steps& steps = layer.steps;
    if (steps.capacity == steps.T * steps.B && layer.input.dim() == 3)
      return array({steps.T, steps.B, n});
    return torch::stable::new_zeros(layer.input, {steps.capacity, n});
  }
  // Only the rows there are, as a matrix.
  Tensor matrix(const Tensor& features, int64_t n) const {
    Tensor all = torch::stable::reshape(features, {layer.steps.capacity, n});
    return torch::stable::narrow(all, 0, 0, rows());
  }

  // A copy of a state in the dtype that it is computed in, or zeros.
  Tensor wide(const std::optional<Tensor>& state, int64_t size) const {
    const ScalarType dtype =
        layer.dtype() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    if (!state) return torch::stable::new_zeros(layer.input, {layer.shape.B, size}, dtype);
    return torch::stable::to(dense(*state), dtype, std::nullopt, std::nullopt, std::nullopt, false,
                             true);
  }
  Tensor narrow(const Tensor& state) const { return torch::stable::to(state, layer.dtype()); }

  Plan plan(bool backward) const {
    const auto [T, B, I, H] = layer.shape;
    const int bytes = static_cast<int>(layer.input.element_size());
    try {
      return make_plan({layer.mode, bytes, backward, T, B, H}, device.limits());
    } catch (const std::invalid_argument& error) {
      STD_TORCH_CHECK(false, error.what());
    }
  }

  void check(cudaError_t error, const char* what, const Plan& plan) const {
    const auto [T, B, I, H] = layer.shape;
    const int64_t sizes[] = {T, B, H};
    STD_TORCH_CHECK(error == cudaSuccess, "the CUDA kernel of ", what,
                    " failed for (T, B, H) = ", text(sizes, 3), ", planned as ", reason(plan), ": ",
                    cudaGetErrorString(error));
  }

 private:
  Timeline timeline_;
  std::optional<Tensor> offsets_;
};

std::tuple<Tensor, Tensor, Tensor, Tensor> layer_forward(
    const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx, const Tensor& weight_ih,
    const Tensor& weight_hh, const std::optional<Tensor>& bias_ih,
    const std::optional<Tensor>& bias_hh, int64_t mode, bool reverse, bool save, bool,
    const std::optional<Tensor>& batch_sizes, const std::optional<Tensor>& weight_hr,
    const std::optional<Tensor>& embedding, const std::optional<Tensor>& mask) {
  const Call call(input, mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes,
                  embedding, mask);
  const Layer& layer = call.layer;
  const int64_t H = layer.shape.H, I = layer.shape.I;
  layer.check_biases(bias_ih, bias_hh);
  const auto dense_bias_ih = dense(bias_ih), dense_bias_hh = dense(bias_hh);
  Tensor output = call.features(H);
  Tensor h_n = torch::stable::clone(layer.hx);
  Tensor c_n = layer.cx ? call.wide(layer.cx, H) : call.array({0});
  Tensor reserve = call.array({save ? layer.reserve_size() : 0});
  if (!call.is_empty()) {
    const Tensor projected = torch::stable::matmul(call.matrix(layer.input, I),
                                                   torch::stable::transpose(layer.weight_ih, 0, 1));
    const Plan plan = call.plan(false);
    dispatch(layer.dtype(), [&](auto zero) {
      using E = decltype(zero);
      const Forward<E> forward = {H,
                                  call.timeline(),
                                  data<E>(projected),
                                  data<E>(layer.hx),
                                  data<E>(layer.weight_hh),
                                  data<E>(dense_bias_ih),
                                  data<E>(dense_bias_hh),
                                  mutable_data<E>(output),
                                  mutable_data<E>(h_n),
                                  layer.cx ? mutable_data<Wide<E>>(c_n) : nullptr,
                                  save ? mutable_data<E>(reserve) : nullptr};
      call.check(launch_forward(layer.mode, forward, plan, call.device.stream()), "forward", plan);
    });
  }
  return {output, h_n, call.narrow(c_n), reserve};
}

// The gradients of the sums of all rows, in the order of the cell; and those of its gates, in
// torch's order.
struct SumGradients {
  Tensor all, of_input, of_hidden;

  SumGradients(const Tensor& sums, const Layer& layer) : all(sums) {
    const int64_t H = layer.shape.H, G = gates(layer.mode), S = fastrnn::sums(layer.mode);
    of_input = torch::stable::narrow(all, 1, 0, G * H);
    of_hidden = torch::stable::narrow(all, 1, (S - G) * H, G * H);
  }
};

// `rows` along the first dimension moved from the front to the end.
Tensor rotated(const Tensor& tensor, int64_t rows) {
  if (rows == 0) return tensor;
  const int64_t n = tensor.size(0);
  Tensor result = torch::stable::new_empty(tensor, tensor.sizes());
  Tensor whole = tensor;  // narrow takes no const tensor
  Tensor front = torch::stable::narrow(result, 0, 0, n - rows);
  Tensor back = torch::stable::narrow(result, 0, n - rows, rows);
  torch::stable::copy_(front, torch::stable::narrow(whole, 0, rows, n - rows));
  torch::stable::copy_(back, torch::stable::narrow(whole, 0, 0, rows));
  return result;
}

// Runs the recurrence backward; returns (S*H) for each row there is.
Tensor run_backward(const Call& call, const std::optional<Tensor>& grad_output,
                    const Tensor& output, const Tensor& reserve, Tensor& grad_h, Tensor& grad_c,
                    bool wants_grad_hx) {
  const Layer& layer = call.layer;
  const int64_t H = layer.shape.H;
  Tensor grad_sums = call.array({call.rows(), sums(layer.mode) * H});
  const Tensor outputs = dense(output), reserved = dense(reserve);
  const auto grad_outputs =
      grad_output ? std::optional(with_contiguous_features(*grad_output)) : std::nullopt;
  const Tensor weight_hh_t =
      torch::stable::contiguous(torch::stable::transpose(layer.weight_hh, 0, 1));
  const Plan plan = call.plan(true);
  dispatch(layer.dtype(), [&](auto zero) {
    using E = decltype(zero);
    Sequence<const E> gradients = {};
    if (grad_outputs) gradients = layer.steps.sequence<E>(*grad_outputs);
    if (gradients.offsets) gradients.offsets = call.timeline().offsets;
    const Backward<E> backward = {H,
                                  call.timeline(),
                                  gradients,
                                  data<E>(layer.hx),
                                  data<E>(layer.cx),
                                  data<E>(weight_hh_t),
                                  data<E>(outputs),
                                  data<E>(reserved),
                                  mutable_data<Wide<E>>(grad_h),
                                  layer.cx ? mutable_data<Wide<E>>(grad_c) : nullptr,
                                  mutable_data<E>(grad_sums)};
    call.check(launch_backward(layer.mode, backward, plan, wants_grad_hx, call.device.stream()),
               "backward", plan);
  });
  return grad_sums;
}

// The h that each row of each time came from, as a matrix.
Tensor previous_states(const Call& call, const Tensor& output) {
  const Layer& layer = call.layer;
  const int64_t H = layer.shape.H;
  Tensor previous = call.array({call.rows(), H});
  const Tensor outputs = dense(output);
  dispatch(layer.dtype(), [&](auto zero) {
    using E = decltype(zero);
    Forward<E> forward = {};
    forward.H = H;
    forward.timeline = call.timeline();
    forward.hx = data<E>(layer.hx);
    forward.output = const_cast<E*>(data<E>(outputs));
    const cudaError_t error =
        launch_previous(forward, mutable_data<E>(previous), call.device.stream());
    STD_TORCH_CHECK(error == cudaSuccess,
                    "the CUDA kernel of previous states failed: ", cudaGetErrorString(error));
  });
  return previous;
}

Results layer_backward(const std::optional<Tensor>& grad_output,
                       const std::optional<Tensor>& grad_h_n, const std::optional<Tensor>& grad_c_n,
                       const Tensor& input, const Tensor& hx, const std::optional<Tensor>& cx,
                       const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& output,
                       const Tensor& reserve, int64_t mode, bool reverse, int64_t wanted,
                       const std::optional<Tensor>& batch_sizes,
                       const std::optional<Tensor>& weight_hr,
                       const std::optional<Tensor>& embedding, const std::optional<Tensor>& mask) {
  using torch::stable::matmul;
  using torch::stable::transpose;
  const Call call(input, mode, reverse, input, hx, cx, weight_ih, weight_hh, weight_hr, batch_sizes,
                  embedding, mask);
  const Layer& layer = call.layer;
  const auto [T, B, I, H] = layer.shape;
  const int64_t rows = gates(layer.mode) * H;
  const auto wants = [&](Wanted result) { return (wanted >> result & 1) != 0; };
  layer.check_saved(output, reserve, grad_output);
  if (grad_h_n) check(*grad_h_n, "grad_h_n", {B, H}, input);
  if (grad_c_n) check(*grad_c_n, "grad_c_n", {B, H}, input);
  Tensor grad_h = call.wide(grad_h_n, H);
  Tensor grad_c = layer.cx ? call.wide(grad_c_n, H) : call.array({0});
  const auto none = [&] { return call.array({0}); };
  Results results = {none(), none(), none(), none(), none(), none(), none(), none(), none()};
  if (call.is_empty()) {
    const auto zeros = [&](Sizes sizes) { return torch::stable::new_zeros(layer.input, sizes); };
    if (wants(kInput)) std::get<kInput>(results) = call.features(I);
    if (wants(kWeightIh)) std::get<kWeightIh>(results) = zeros({rows, I});
    if (wants(kWeightHh)) std::get<kWeightHh>(results) = zeros({rows, H});
    if (wants(kBiasIh)) std::get<kBiasIh>(results) = zeros({rows});
    if (wants(kBiasHh)) std::get<kBiasHh>(results) = zeros({rows});
  } else {
    const SumGradients sums(
        run_backward(call, grad_output, output, reserve, grad_h, grad_c, wants(kHx) || wants(kCx)),
        layer);
    // A cell whose first input sum is not that of torch's first gate has them rotated.
    const int64_t shift = input_gate(layer.mode, 0) * H;
    const int64_t back = shift ? rows - shift : 0;
    if (wants(kInput)) {
      Tensor grad_input = call.features(I);
      Tensor used = call.matrix(grad_input, I);
      torch::stable::copy_(used, matmul(sums.of_input, rotated(layer.weight_ih, shift)));
      std::get<kInput>(results) = grad_input;
    }
    if (wants(kWeightIh)) {
      std::get<kWeightIh>(results) =
          rotated(matmul(transpose(sums.of_input, 0, 1), call.matrix(layer.input, I)), back);
    }
    if (wants(kWeightHh)) {
      std::get<kWeightHh>(results) =
          matmul(transpose(sums.of_hidden, 0, 1), previous_states(call, output));
    }
    const int64_t over_rows[] = {0};
    if (wants(kBiasIh)) {
      std::get<kBiasIh>(results) = rotated(torch::stable::sum(sums.of_input, over_rows), back);
    }
    if (wants(kBiasHh)) std::get<kBiasHh>(results) = torch::stable::sum(sums.of_hidden, over_rows);
  }
  if (wants(kHx)) std::get<kHx>(results) = call.narrow(grad_h);
  if (wants(kCx) && layer.cx) std::get<kCx>(results) = call.narrow(grad_c);
  return results;
}

#if defined(FASTRNN_CUDA_SIM)
STABLE_TORCH_LIBRARY(fastrnn_sim, m) {
  m.def(kForwardSchema);
  m.def(kBackwardSchema);
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn_sim, CPU, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(fastrnn, CUDA, m) {
#endif
  m.impl("_layer_forward", TORCH_BOX(&layer_forward));
  m.impl("_layer_backward", TORCH_BOX(&layer_backward));
}

}  // namespace
}  // namespace fastrnn::cuda
