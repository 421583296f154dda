// One recurrent layer of oneDNN behind a C interface, for onednn.py: forward, or a training step.
// Primitives are made once and all buffers are the caller's, so a call is oneDNN's work and little
// else. Weights are in oneDNN's gate order (i f c o; z r n), in the layout (G*H, in) of torch.
#include <cstdint>
#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

struct Sizes {
  int64_t T, B, I, H;
};

// What training alone needs is null in inference, c_n but for an LSTM. Gradients are float32.
struct Buffers {
  void* input;                  // (T, B, I)
  void *weight_ih, *weight_hh;  // (G*H, I), (G*H, H)
  void* bias;                   // (G*H), of a GRU (4*H): z, r, n of the input, n of the hidden side
  void *output, *h_n, *c_n;     // (T, B, H), (B, H), (B, H); c_n is float32
  void *grad_output, *grad_input;
  void *grad_weight_ih, *grad_weight_hh, *grad_bias;
};

namespace {

enum Cell { kRnn, kLstm, kGru };

dnnl::engine& cpu() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& queue() {
  static dnnl::stream stream(cpu());
  return stream;
}

memory zeros(const memory::desc& desc) {
  memory made(desc, cpu());
  std::memset(made.get_data_handle(), 0, desc.get_size());
  return made;
}

void copy(memory from, memory to) { dnnl::reorder(from, to).execute(queue(), from, to); }

class Layer {
 public:
  Layer(Cell cell, const Sizes& sizes, Type type, bool training, const Buffers& buffers)
      : training_(training) {
    const int64_t gates = cell == kRnn ? 1 : cell == kLstm ? 4 : 3;
    const int64_t bias_gates = cell == kGru ? 4 : gates;
    const auto [T, B, I, H] = sizes;
    describe({T, B, I}, {T, B, H}, {1, 1, I, gates, H}, {1, 1, H, gates, H}, {1, 1, bias_gates, H},
             {1, 1, B, H}, type, cell == kLstm);
    make_primitives(cell);
    bind_forward(buffers);
    if (training) bind_backward(buffers);
  }

  void forward() {
    forward_.execute(queue(), forward_arguments_);
    queue().wait();
  }

  // The weights change in every step of a training, so packing and unpacking them is part of it.
  void train() {
    pack();
    forward_.execute(queue(), forward_arguments_);
    copy(weight_ih_, backward_arguments_.at(DNNL_ARG_WEIGHTS_LAYER));
    copy(weight_hh_, backward_arguments_.at(DNNL_ARG_WEIGHTS_ITER));
    queue().wait();
    // oneDNN adds to what stands in the gradients of the weights.
    for (int each : {DNNL_ARG_DIFF_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_ITER, DNNL_ARG_DIFF_BIAS}) {
      const memory& gradient = backward_arguments_.at(each);
      std::memset(gradient.get_data_handle(), 0, gradient.get_desc().get_size());
    }
    backward_.execute(queue(), backward_arguments_);
    copy(backward_arguments_.at(DNNL_ARG_DIFF_WEIGHTS_LAYER), grad_weight_ih_);
    copy(backward_arguments_.at(DNNL_ARG_DIFF_WEIGHTS_ITER), grad_weight_hh_);
    queue().wait();
  }

  std::string kernels;

 private:
  void describe(const memory::dims& x, const memory::dims& y, const memory::dims& w_ih,
                const memory::dims& w_hh, const memory::dims& b, const memory::dims& state,
                Type type, bool has_c) {
    x_ = {x, type, Tag::tnc};
    y_ = {y, type, Tag::tnc};
    h_ = {state, type, Tag::ldnc};
    user_w_ih_ = {w_ih, type, Tag::ldgoi};
    user_w_hh_ = {w_hh, type, Tag::ldgoi};
    w_ih_ = {w_ih, type, Tag::any};
    w_hh_ = {w_hh, type, Tag::any};
    b_ = {b, Type::f32, Tag::ldgo};
    dx_ = {x, Type::f32, Tag::tnc};
    dy_ = {y, Type::f32, Tag::tnc};
    dh_ = {state, Type::f32, Tag::ldnc};
    if (has_c) c_ = dh_;
    user_dw_ih_ = {w_ih, Type::f32, Tag::ldgoi};
    user_dw_hh_ = {w_hh, Type::f32, Tag::ldgoi};
    dw_ih_ = {w_ih, Type::f32, Tag::any};
    dw_hh_ = {w_hh, Type::f32, Tag::any};
  }

  void make_primitives(Cell cell) {
    const auto kind =
        training_ ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const auto back = dnnl::prop_kind::backward;
    const auto way = dnnl::rnn_direction::unidirectional_left2right;
    const auto tanh = dnnl::algorithm::eltwise_tanh;
    if (cell == kRnn) {
      using Forward = dnnl::vanilla_rnn_forward;
      using Backward = dnnl::vanilla_rnn_backward;
      Forward::primitive_desc f(cpu(), kind, tanh, way, x_, h_, w_ih_, w_hh_, b_, y_, h_);
      adopt(f, Forward(f));
      if (!training_) return;
      Backward::primitive_desc b(cpu(), back, tanh, way, x_, h_, w_ih_, w_hh_, b_, y_, h_, dx_, dh_,
                                 dw_ih_, dw_hh_, b_, dy_, dh_, f);
      adopt_backward(b, Backward(b));
    } else if (cell == kLstm) {
      using Forward = dnnl::lstm_forward;
      using Backward = dnnl::lstm_backward;
      Forward::primitive_desc f(cpu(), kind, way, x_, h_, c_, w_ih_, w_hh_, b_, y_, h_, c_);
      adopt(f, Forward(f));
      if (!training_) return;
      Backward::primitive_desc b(cpu(), back, way, x_, h_, c_, w_ih_, w_hh_, b_, y_, h_, c_, dx_,
                                 dh_, c_, dw_ih_, dw_hh_, b_, dy_, dh_, c_, f);
      adopt_backward(b, Backward(b));
    } else {
      using Forward = dnnl::lbr_gru_forward;
      using Backward = dnnl::lbr_gru_backward;
      Forward::primitive_desc f(cpu(), kind, way, x_, h_, w_ih_, w_hh_, b_, y_, h_);
      adopt(f, Forward(f));
      if (!training_) return;
      Backward::primitive_desc b(cpu(), back, way, x_, h_, w_ih_, w_hh_, b_, y_, h_, dx_, dh_,
                                 dw_ih_, dw_hh_, b_, dy_, dh_, f);
      adopt_backward(b, Backward(b));
    }
  }

  template <class Desc>
  void adopt(const Desc& desc, dnnl::primitive primitive) {
    forward_ = primitive;
    kernels = desc.impl_info_str();
    forward_arguments_ = {{DNNL_ARG_WEIGHTS_LAYER, memory(desc.weights_layer_desc(), cpu())},
                          {DNNL_ARG_WEIGHTS_ITER, memory(desc.weights_iter_desc(), cpu())}};
    if (training_) forward_arguments_[DNNL_ARG_WORKSPACE] = memory(desc.workspace_desc(), cpu());
  }

  template <class Desc>
  void adopt_backward(const Desc& desc, dnnl::primitive primitive) {
    backward_ = primitive;
    kernels += std::string(", backward ") + desc.impl_info_str();
    backward_arguments_ = {
        {DNNL_ARG_WEIGHTS_LAYER, memory(desc.weights_layer_desc(), cpu())},
        {DNNL_ARG_WEIGHTS_ITER, memory(desc.weights_iter_desc(), cpu())},
        {DNNL_ARG_DIFF_WEIGHTS_LAYER, memory(desc.diff_weights_layer_desc(), cpu())},
        {DNNL_ARG_DIFF_WEIGHTS_ITER, memory(desc.diff_weights_iter_desc(), cpu())}};
  }

  // The states are given even where they are zero: with none, oneDNN 3.13's float32 training gave
  // wrong gradients of weight_hh without an error.
  void bind_forward(const Buffers& buffers) {
    weight_ih_ = memory(user_w_ih_, cpu(), buffers.weight_ih);
    weight_hh_ = memory(user_w_hh_, cpu(), buffers.weight_hh);
    Arguments& arguments = forward_arguments_;
    arguments[DNNL_ARG_SRC_LAYER] = memory(x_, cpu(), buffers.input);
    arguments[DNNL_ARG_SRC_ITER] = zeros(h_);
    arguments[DNNL_ARG_BIAS] = memory(b_, cpu(), buffers.bias);
    arguments[DNNL_ARG_DST_LAYER] = memory(y_, cpu(), buffers.output);
    arguments[DNNL_ARG_DST_ITER] = memory(h_, cpu(), buffers.h_n);
    if (!c_.is_zero()) {
      arguments[DNNL_ARG_SRC_ITER_C] = zeros(c_);
      arguments[DNNL_ARG_DST_ITER_C] = memory(c_, cpu(), buffers.c_n);
    }
    pack();
    queue().wait();
  }

  void bind_backward(const Buffers& buffers) {
    grad_weight_ih_ = memory(user_dw_ih_, cpu(), buffers.grad_weight_ih);
    grad_weight_hh_ = memory(user_dw_hh_, cpu(), buffers.grad_weight_hh);
    Arguments& arguments = backward_arguments_;
    arguments.insert(forward_arguments_.begin(), forward_arguments_.end());  // but the weights
    arguments[DNNL_ARG_DIFF_DST_LAYER] = memory(dy_, cpu(), buffers.grad_output);
    arguments[DNNL_ARG_DIFF_DST_ITER] = zeros(dh_);
    arguments[DNNL_ARG_DIFF_SRC_LAYER] = memory(dx_, cpu(), buffers.grad_input);
    arguments[DNNL_ARG_DIFF_SRC_ITER] = zeros(dh_);
    arguments[DNNL_ARG_DIFF_BIAS] = memory(b_, cpu(), buffers.grad_bias);
    if (!c_.is_zero()) {
      arguments[DNNL_ARG_DIFF_DST_ITER_C] = zeros(c_);
      arguments[DNNL_ARG_DIFF_SRC_ITER_C] = zeros(c_);
    }
  }

  void pack() {
    copy(weight_ih_, forward_arguments_.at(DNNL_ARG_WEIGHTS_LAYER));
    copy(weight_hh_, forward_arguments_.at(DNNL_ARG_WEIGHTS_ITER));
  }

  bool training_;
  memory::desc x_, y_, h_, c_, w_ih_, w_hh_, b_, dx_, dy_, dh_, dw_ih_, dw_hh_;
  memory::desc user_w_ih_, user_w_hh_, user_dw_ih_, user_dw_hh_;
  dnnl::primitive forward_, backward_;
  Arguments forward_arguments_, backward_arguments_;
  memory weight_ih_, weight_hh_, grad_weight_ih_, grad_weight_hh_;
};

std::string last_error;

// Runs a function; 0 after an error, whose text is kept.
template <class Function>
int guarded(Function function) {
  try {
    function();
    return 1;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 0;
  }
}

}  // namespace

extern "C" {

const char* onednn_error() { return last_error.c_str(); }

// Makes the engine, which must exist before another copy of its threading library is loaded.
int onednn_start() {
  return guarded([] { queue(); });
}

void* onednn_create(int cell, const Sizes* sizes, int bfloat16, int training,
                    const Buffers* buffers) {
  Layer* layer = nullptr;
  guarded([&] {
    layer = new Layer(static_cast<Cell>(cell), *sizes, bfloat16 ? Type::bf16 : Type::f32, training,
                      *buffers);
  });
  return layer;
}

const char* onednn_kernels(void* layer) { return static_cast<Layer*>(layer)->kernels.c_str(); }

int onednn_forward(void* layer) {
  return guarded([&] { static_cast<Layer*>(layer)->forward(); });
}

int onednn_train(void* layer) {
  return guarded([&] { static_cast<Layer*>(layer)->train(); });
}

void onednn_destroy(void* layer) { delete static_cast<Layer*>(layer); }

}  // extern "C"
