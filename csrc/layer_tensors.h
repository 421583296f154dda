// What the ops of one layer take and return, whatever the device: tensors, checked.
#pragma once

#include <optional>
#include <tuple>

#include "steps.h"
#include "tensors.h"
#include "token_ids.h"

namespace fastrnn {

// The tensors that both ops take, checked; contiguous where the kernels need it. On the CPU, or all
// on the device of the input.
struct Layer {
  Mode mode;
  Shape shape;
  bool reverse;
  Tensor input, hx;
  std::optional<Tensor> cx;
  Tensor weight_ih, weight_hh;
  std::optional<Tensor> weight_hr, embedding, mask;
  Steps steps;
  int64_t features;        // of h
  int64_t vocabulary = 0;  // of ids; where they are one-hot vectors, I of them

  Layer(int64_t mode_index, bool reversed, const Tensor& input_, const Tensor& hx_,
        const std::optional<Tensor>& cx_, const Tensor& weight_ih_, const Tensor& weight_hh_,
        const std::optional<Tensor>& weight_hr_, const std::optional<Tensor>& batch_sizes,
        const std::optional<Tensor>& embedding_, const std::optional<Tensor>& mask_)
      : reverse(reversed), steps(input_, batch_sizes, hx_.dim() == 2 ? hx_.size(0) : 0) {
    mode = checked_mode(mode_index);
    STD_TORCH_CHECK(weight_ih_.dim() == 2, "weight_ih must have 2 dimensions");
    const bool ids = is_ids(input_);
    const Tensor& like = ids ? weight_ih_ : input_;
    const int64_t inputs = ids ? weight_ih_.size(1) : input_.size(input_.dim() - 1);
    if (ids) vocabulary = embedding_ && embedding_->dim() == 2 ? embedding_->size(0) : inputs;
    if (ids) check_ids(input_, like, vocabulary);
    check_dtype(like);
    STD_TORCH_CHECK(ids || !embedding_, "embedding must come with ids, not with float input");
    STD_TORCH_CHECK(hx_.dim() == 2, "hx must be (B, H), got ", hx_.dim(), " dimensions");
    const bool projects = weight_hr_.has_value() && weight_hr_->dim() == 2;
    features = hx_.size(1);
    shape = {steps.T, steps.B, inputs, projects ? weight_hr_->size(1) : features};
    const auto [T, B, I, H] = shape;
    STD_TORCH_CHECK(features > 0 && H > 0, "hx must have H > 0");
    if (weight_hr_) check_projection(*weight_hr_, like);
    const int64_t rows = gates(mode) * H;
    check(hx_, "hx", {B, features}, like);
    check(weight_ih_, "weight_ih", {rows, I}, like);
    check(weight_hh_, "weight_hh", {rows, features}, like);
    if (embedding_) check(*embedding_, "embedding", {vocabulary, I}, like);
    STD_TORCH_CHECK(cx_.has_value() == has_cell_state(mode),
                    "cx must be given for LSTM and only then");
    if (cx_) check(*cx_, "cx", {B, H}, like);
    input = ids ? input_ : with_contiguous_features(input_);
    embedding = dense(embedding_);
    hx = dense(hx_);
    cx = dense(cx_);
    weight_ih = dense(weight_ih_);
    weight_hh = dense(weight_hh_);
    weight_hr = dense(weight_hr_);
    if (mask_) check_mask(*mask_);
    mask = dense(mask_);
  }

  ScalarType dtype() const { return weight_ih.scalar_type(); }
  // Of float input; without data where there are ids.
  template <class E>
  Sequence<const E> sequence() const {
    return vocabulary > 0 ? Sequence<const E>{} : steps.sequence<E>(input);
  }
  std::optional<TokenIds> ids() const {
    if (vocabulary == 0) return std::nullopt;
    return std::optional<TokenIds>(std::in_place, input, steps, vocabulary);
  }
  Timeline timeline() const { return steps.timeline(reverse); }
  int64_t reserve_size() const { return steps.capacity * shape.H * reserve_per_unit(mode); }

  void check_biases(const std::optional<Tensor>& bias_ih,
                    const std::optional<Tensor>& bias_hh) const {
    STD_TORCH_CHECK(bias_ih.has_value() == bias_hh.has_value(), "give both biases or none");
    if (bias_ih) check(*bias_ih, "bias_ih", {gates(mode) * shape.H}, hx);
    if (bias_hh) check(*bias_hh, "bias_hh", {gates(mode) * shape.H}, hx);
  }
  // What forward kept, and the gradient of its output.
  void check_saved(const Tensor& output, const Tensor& reserve,
                   const std::optional<Tensor>& grad_output) const {
    steps.check_features(output, "output", features, hx);
    check(reserve, "reserve", {reserve_size()}, hx);
    if (grad_output) steps.check_features(*grad_output, "grad_output", features, hx);
  }

 private:
  void check_mask(const Tensor& mask_) const {
    STD_TORCH_CHECK(!weight_hr && weight_ih.element_size() >= 4,
                    "mask must be float32 or float64, and without weight_hr");
    check(mask_, "mask", {shape.B, features}, weight_ih);
  }
  void check_projection(const Tensor& weight, const Tensor& like) const {
    STD_TORCH_CHECK(mode == Mode::kLstm && features < shape.H,
                    "weight_hr is for LSTM, whose h it makes smaller");
    STD_TORCH_CHECK(like.element_size() >= 4, "weight_hr must be float32 or float64");
    check(weight, "weight_hr", {features, shape.H}, like);
  }
};

// What backward can be asked for, in the order of its results; bit k of `wanted` asks for result k.
enum Wanted { kInput, kHx, kCx, kWeightIh, kWeightHh, kBiasIh, kBiasHh, kWeightHr, kEmbedding };
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The schemas of the two ops.
constexpr const char* kForwardSchema =
    "_layer_forward(Tensor input, Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, "
    "Tensor? bias_ih, Tensor? bias_hh, int mode, bool reverse, bool save, "
    "bool bfloat16_weights=False, Tensor? batch_sizes=None, Tensor? weight_hr=None, "
    "Tensor? embedding=None, Tensor? mask=None) "
    "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor reserve)";
constexpr const char* kBackwardSchema =
    "_layer_backward(Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor input, "
    "Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, Tensor output, Tensor reserve, "
    "int mode, bool reverse, int wanted, Tensor? batch_sizes=None, Tensor? weight_hr=None, "
    "Tensor? embedding=None, Tensor? mask=None) "
    "-> (Tensor grad_input, Tensor grad_hx, Tensor grad_cx, Tensor grad_weight_ih, "
    "Tensor grad_weight_hh, Tensor grad_bias_ih, Tensor grad_bias_hh, Tensor grad_weight_hr, "
    "Tensor grad_embedding)";

}  // namespace fastrnn
