// The op `fastrnn::_inference`: all layers and directions of a module in one call, without
// gradients and without dropout.
#include <cstring>
#include <tuple>
#include <vector>

#include "cpu/machine.h"
#include "cpu/plan.h"
#include "cpu/run.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/widened.h"
#include "steps.h"
#include "tensors.h"
#include "token_ids.h"

namespace fastrnn {
namespace {

// A module's weights, states and input, checked; contiguous where the kernels need it.
struct Network {
  Mode mode;
  int64_t layers, directions;
  bool batch_first, bfloat16_weights;
  Shape shape;  // of the first layer
  Tensor input;
  std::vector<Tensor> states, weights;
  Steps steps;
  std::optional<Tensor> embedding;
  int64_t vocabulary = 0;  // of ids; where they are one-hot vectors, I of them

  int64_t width() const { return directions * shape.H; }
  int64_t state_size() const { return shape.B * shape.H; }
  int64_t features(int64_t layer) const { return layer == 0 ? shape.I : width(); }
  size_t weights_each() const { return weights.size() / (layers * directions); }

  void check_all() {
    STD_TORCH_CHECK(layers > 0 && (weights.size() == size_t(2 * layers * directions) ||
                                   weights.size() == size_t(4 * layers * directions)),
                    "weights must be 2 or 4 for each of ", layers * directions,
                    " layers and directions, got ", weights.size());
    STD_TORCH_CHECK(weights[0].dim() == 2 && weights[1].dim() == 2,
                    "weight_ih and weight_hh must have 2 dimensions");
    const bool ids = is_ids(input);
    const Tensor like = ids ? weights[0] : input;
    check_dtype(like);
    const int64_t inputs = ids ? weights[0].size(1) : input.size(input.dim() - 1);
    shape = {steps.T, steps.B, inputs, weights[1].size(1)};
    STD_TORCH_CHECK(shape.H > 0, "H must be > 0");
    STD_TORCH_CHECK(ids || !embedding, "embedding must come with ids, not with float input");
    if (ids) {
      vocabulary = embedding && embedding->dim() == 2 ? embedding->size(0) : inputs;
      check_ids(input, like, vocabulary);
      if (embedding) check(*embedding, "embedding", {vocabulary, inputs}, like);
      embedding = dense(embedding);
    } else {
      input = with_contiguous_features(input);
    }
    const size_t wanted = has_cell_state(mode) ? 2 : 1;
    STD_TORCH_CHECK(states.empty() || states.size() == wanted, "states must be none or ", wanted,
                    ", got ", states.size());
    for (Tensor& state : states) {
      check(state, "a state", {layers * directions, shape.B, shape.H}, like);
      state = dense(state);
    }
    const int64_t rows = gates(mode) * shape.H;
    for (int64_t k = 0; k < layers * directions; ++k) {
      Tensor* each = weights.data() + k * weights_each();
      check(each[0], "weight_ih", {rows, features(k / directions)}, like);
      check(each[1], "weight_hh", {rows, shape.H}, like);
      for (size_t i = 2; i < weights_each(); ++i) check(each[i], "a bias", {rows}, like);
      for (size_t i = 0; i < weights_each(); ++i) each[i] = dense(each[i]);
    }
  }
};

template <class E>
class Run {
 public:
  Run(const Network& network, const Tensor& output, const Tensor& h_n, const Tensor& c_n)
      : network_(network),
        output_(output.numel() > 0 ? mutable_data<E>(output) : nullptr),
        h_n_(mutable_data<E>(h_n)),
        c_n_(mutable_data<E>(c_n)),
        zeros_(network.states.empty() ? network.state_size() : 0) {
    if (network.states.empty()) std::memset(zeros_, 0, network.state_size() * sizeof(E));
  }

  void all() const {
    std::optional<TokenIds> ids;
    Sequence<const E> input = {};
    if (network_.vocabulary > 0) {
      ids.emplace(network_.input, network_.steps, network_.vocabulary, network_.batch_first);
    } else {
      input = network_.steps.sequence<E>(network_.input);
    }
    const int32_t* tokens = ids ? static_cast<const int32_t*>(*ids) : nullptr;
    if (network_.batch_first && network_.input.dim() == 3)
      std::swap(input.step_stride, input.row_stride);
    const int64_t threads = at_once();
    if (threads > 1) return beside_each_other(threads, input, tokens);
    const int64_t last = network_.layers - 1, size = network_.steps.rows() * network_.width();
    const Scratch<E> between(std::min<int64_t>(last, 2) * size);
    for (int64_t layer = 0; layer <= last; ++layer) {
      E* output = layer == last ? output_ : between + layer % 2 * size;  // null: not wanted
      both_directions(layer, input, layer == 0 ? tokens : nullptr, output, nullptr);
      input = as_input(output);
    }
  }

 private:
  // Threads for as many layers. Kernels that take copies of some steps at a time, of a type that is
  // only stored, leave no step to be read behind them.
  int64_t at_once() const {
    bool copies = false;
    with_kernel_type<E>([&](auto zero) { copies = !std::is_same_v<decltype(zero), E>; });
    if (copies || network_.directions > 1 || network_.steps.timeline(false).offsets) return 1;
    Shape shape = network_.shape;
    shape.I = network_.width();
    return layers_at_once(network_.mode, shape, network_.layers, sizeof(E), current_machine());
  }

  // Each layer has an output of its own, which the one above reads behind it.
  void beside_each_other(int64_t threads, const Sequence<const E>& input,
                         const int32_t* tokens) const {
    const int64_t last = network_.layers - 1, size = network_.steps.rows() * network_.width();
    const Scratch<E> between((output_ ? last : last + 1) * size);
    Wavefront front(network_.layers);
    parallel_for(threads, 1, [&](int64_t, int64_t) {
      for (int64_t layer; (layer = front.claim()) <= last;) {
        Pace pace(front, layer);
        E* output = layer == last && output_ ? output_ : between + layer * size;
        both_directions(layer, layer == 0 ? input : as_input(between + (layer - 1) * size),
                        layer == 0 ? tokens : nullptr, output, &pace);
      }
    });
  }

  Sequence<const E> as_input(const E* output) const {
    const int64_t width = network_.width();
    return {output, network_.shape.B * width, width, network_.steps.timeline(false).offsets};
  }

  void both_directions(int64_t layer, const Sequence<const E>& input, const int32_t* tokens,
                       E* output, Pace* pace) const {
    Shape shape = network_.shape;
    shape.I = network_.features(layer);
    const int64_t directions = network_.directions;
    const int64_t grain = side_by_side(network_.mode, shape, current_machine()) ? 1 : directions;
    parallel_for(directions, grain, [&](int64_t begin, int64_t end) {
      for (int64_t d = begin; d < end; ++d)
        one(layer * directions + d, shape, d == 1, input, tokens, output, pace);
    });
  }

  void one(int64_t k, const Shape& shape, bool reverse, const Sequence<const E>& input,
           const int32_t* tokens, E* output, Pace* pace) const {
    LayerForward<E> layer = {};
    layer.shape = shape;
    layer.features = shape.H;
    layer.timeline = network_.steps.timeline(reverse);
    layer.input = input;
    layer.tokens = tokens;
    layer.hx = state(0, k);
    if (output) layer.output = output + (reverse ? shape.H : 0);
    layer.output_stride = network_.width();
    layer.h_n = h_n_ + k * network_.state_size();
    if (has_cell_state(network_.mode)) {
      layer.cx = state(1, k);
      layer.c_n = c_n_ + k * network_.state_size();
    }
    const Tensor* each = network_.weights.data() + k * network_.weights_each();
    const bool biased = network_.weights_each() == 4;
    run_forward(network_.mode, layer,
                Weights<E>{data<E>(each[0]), data<E>(each[1]), biased ? data<E>(each[2]) : nullptr,
                           biased ? data<E>(each[3]) : nullptr, nullptr, network_.vocabulary,
                           data<E>(network_.embedding)},
                true, network_.bfloat16_weights, pace);
  }

  const E* state(size_t which, int64_t k) const {
    if (network_.states.empty()) return zeros_;
    return data<E>(network_.states[which]) + k * network_.state_size();
  }

  const Network& network_;
  E *output_, *h_n_, *c_n_;
  const Scratch<E> zeros_;
};

std::tuple<Tensor, Tensor, Tensor> inference(const Tensor& input, std::vector<Tensor> states,
                                             std::vector<Tensor> weights, int64_t mode,
                                             int64_t num_layers, bool bidirectional,
                                             bool batch_first, bool bfloat16_weights,
                                             const std::optional<Tensor>& batch_sizes,
                                             bool wants_output,
                                             const std::optional<Tensor>& embedding) {
  check_on_cpu(input);
  const int64_t batch = states.empty() || states[0].dim() != 3 ? -1 : states[0].size(1);
  Network network{checked_mode(mode),
                  num_layers,
                  bidirectional ? 2 : 1,
                  batch_first,
                  bfloat16_weights,
                  {},
                  input,
                  std::move(states),
                  std::move(weights),
                  Steps(input, batch_sizes, batch, batch_first),
                  embedding};
  network.check_all();
  const auto [T, B, I, H] = network.shape;
  const int64_t width = network.width(), finals = num_layers * network.directions;
  const ScalarType dtype = network.weights[0].scalar_type();
  // As torch's, the memory is in order of time whatever the order of the sizes.
  const int64_t strides[] = {width, B * width, 1};
  Tensor output = !wants_output                 ? empty({0}, dtype)
                  : batch_first && !batch_sizes ? empty_strided({B, T, width}, strides, dtype)
                                                : network.steps.features(width, dtype);
  Tensor h_n = empty({finals, B, H}, dtype);
  Tensor c_n = has_cell_state(network.mode) ? empty({finals, B, H}, dtype) : empty({0}, dtype);
  dispatch(dtype, [&](auto zero) { Run<decltype(zero)>(network, output, h_n, c_n).all(); });
  return {output, h_n, c_n};
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) { m.impl("_inference", TORCH_BOX(&inference)); }

}  // namespace
}  // namespace fastrnn
