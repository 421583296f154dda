// The arrays of backward, a chunk of steps at a time: those of the call, or for a type that is only
// stored (half.h) float32 copies.
#pragma once

#include <algorithm>

#include "../layer.h"
#include "plan.h"
#include "run.h"
#include "threads.h"
#include "widened.h"

namespace fastrnn {

template <class T>
struct BackwardChunk {
  LayerBackward<T> layer;
  Sequence<const T> input;
  Gradients<T> gradients;
};

template <class E, bool copied = kOnlyStored<E>>
struct BackwardArrays {
  BackwardChunk<E> chunk;

  BackwardArrays(Mode, int64_t, const BackwardChunk<E>& whole) : chunk(whole) {}
  void load(int64_t begin, int64_t end) { chunk.layer.begin = begin, chunk.layer.end = end; }
  void store(int64_t, int64_t) const {}
  void finish() const {}
};

template <class E>
class BackwardArrays<E, true> {
 public:
  BackwardChunk<float> chunk = {};

  // `chunk_steps`: the most that a chunk has; copies hold the step before, too.
  BackwardArrays(Mode mode, int64_t chunk_steps, const BackwardChunk<E>& whole)
      : whole_(whole),
        saved_(reserve_per_unit(mode) * whole.layer.shape.H),
        rows_(gates(mode) * whole.layer.shape.H),
        memory_(elements(chunk_steps + 1)) {
    Carver memory(memory_);
    set_layer(memory, chunk_steps + 1);
    set_gradients(memory, chunk_steps + 1);
  }

  // Steps [begin, end) become those of a layer that has only them and the step before.
  void load(int64_t begin, int64_t end) {
    const LayerBackward<E>& whole = whole_.layer;
    const int64_t H = whole.shape.H, before = begin > 0 ? 1 : 0, steps = end - begin + before;
    first_time_ = whole.timeline.first_time(begin - before, end);
    chunk.layer.shape.T = chunk.layer.end = steps;
    chunk.layer.begin = before;
    chunk.layer.timeline = whole.timeline.times(first_time_, first_time_ + steps);
    chunk.layer.grad_output.offsets = chunk.input.offsets = chunk.layer.timeline.offsets;
    parallel_for(whole.shape.B, items_per_thread(steps * (columns() + 2 * H)),
                 [&](int64_t row, int64_t row_end) { load_rows(row, row_end - row); });
  }

  void store(int64_t begin, int64_t end) const {
    if (!whole_.gradients.input) return;
    const Timeline& timeline = whole_.layer.timeline;
    const int64_t I = whole_.layer.shape.I, first_time = timeline.first_time(begin, end);
    const int64_t first = timeline.first_row(first_time);
    const int64_t rows = timeline.first_row(first_time + end - begin) - first;
    const float* from = chunk.gradients.input + (first - timeline.first_row(first_time_)) * I;
    E* to = whole_.gradients.input + first * I;
    parallel_for(rows, items_per_thread(I), [&](int64_t row, int64_t row_end) {
      narrow(from + row * I, (row_end - row) * I, to + row * I);
    });
  }

  void finish() const {
    const auto [T, B, I, H] = whole_.layer.shape;
    const Gradients<float>& from = chunk.gradients;
    const Gradients<E>& to = whole_.gradients;
    if (to.weight_ih) narrow(from.weight_ih, rows_ * I, to.weight_ih);
    if (to.weight_hh) narrow(from.weight_hh, rows_ * H, to.weight_hh);
    if (to.bias_ih) narrow(from.bias_ih, rows_, to.bias_ih);
    if (to.bias_hh) narrow(from.bias_hh, rows_, to.bias_hh);
    narrow(chunk.layer.grad_h, B * H, whole_.layer.grad_h);
    if (whole_.layer.cx) narrow(chunk.layer.grad_c, B * H, whole_.layer.grad_c);
  }

 private:
  // What is copied of one row at one time.
  int64_t columns() const {
    const auto [T, B, I, H] = whole_.layer.shape;
    const int64_t inputs = (whole_.gradients.weight_ih ? I : 0) + (whole_.gradients.input ? I : 0);
    return inputs + H + saved_ + (whole_.layer.grad_output.data ? H : 0);
  }

  int64_t elements(int64_t steps) const {
    const auto [T, B, I, H] = whole_.layer.shape;
    return 4 * B * H + steps * B * columns() + rows_ * (I + H + 2);
  }

  float* widened_state(Carver& memory, const E* state) const {
    if (!state) return nullptr;
    const int64_t n = whole_.layer.shape.B * whole_.layer.shape.H;
    float* copy = memory.take(n);
    widen(state, n, 1, n, copy);
    return copy;
  }

  void set_layer(Carver& memory, int64_t steps) {
    const LayerBackward<E>& whole = whole_.layer;
    const int64_t B = whole.shape.B, H = whole.shape.H;
    LayerBackward<float>& layer = chunk.layer;
    layer.shape = whole.shape;
    layer.features = H;  // projections come in float32
    layer.row_block = whole.row_block;
    layer.rows_per_vector = whole.rows_per_vector;
    layer.panel_vectors = whole.panel_vectors;
    layer.wants_grad_hx = whole.wants_grad_hx;
    layer.grad_sums = whole.grad_sums;
    layer.hx = widened_state(memory, whole.hx);
    layer.cx = widened_state(memory, whole.cx);
    layer.grad_h = widened_state(memory, whole.grad_h);
    layer.grad_c = widened_state(memory, whole.cx ? whole.grad_c : nullptr);
    layer.output = output_ = memory.take(steps * B * H);
    layer.reserve = reserve_ = memory.take(steps * B * saved_);
    if (whole.grad_output.data) grad_output_ = memory.take(steps * B * H);
    layer.grad_output = {grad_output_, B * H, H, nullptr};
  }

  void set_gradients(Carver& memory, int64_t steps) {
    const auto [T, B, I, H] = whole_.layer.shape;
    const Gradients<E>& whole = whole_.gradients;
    const auto zeros = [&](const E* wanted, int64_t n) -> float* {
      if (!wanted) return nullptr;
      float* sum = memory.take(n);
      std::fill_n(sum, n, 0.0f);
      return sum;
    };
    if (whole.weight_ih) input_ = memory.take(steps * B * I);
    chunk.input = {input_, B * I, I, nullptr};
    chunk.gradients = {whole.input ? memory.take(steps * B * I) : nullptr,
                       zeros(whole.weight_ih, rows_ * I),
                       zeros(whole.weight_hh, rows_ * H),
                       zeros(whole.bias_ih, rows_),
                       zeros(whole.bias_hh, rows_),
                       nullptr};
  }

  void load_rows(int64_t row, int64_t most) const {
    const LayerBackward<E>& whole = whole_.layer;
    const auto [T, B, I, H] = whole.shape;
    for (int64_t t = 0; t < chunk.layer.shape.T; ++t) {
      const int64_t rows = std::min(most, chunk.layer.timeline.rows(t) - row);
      if (rows <= 0) return;  // nor any later
      const int64_t from = whole.timeline.first_row(first_time_ + t) + row;
      const int64_t to = chunk.layer.timeline.first_row(t) + row;
      widen(whole.output + from * H, H, rows, H, output_ + to * H);
      if (saved_ > 0) {
        widen(whole.reserve + from * saved_, saved_, rows, saved_, reserve_ + to * saved_);
      }
      load_row(whole.grad_output, t, row, rows, H, grad_output_);
      load_row(whole_.input, t, row, rows, I, input_);
    }
  }

  void load_row(const Sequence<const E>& from, int64_t t, int64_t row, int64_t rows, int64_t n,
                float* to) const {
    if (!to) return;
    to += (chunk.layer.timeline.first_row(t) + row) * n;
    widen(from.at(first_time_ + t, row), from.row_stride, rows, n, to);
  }

  BackwardChunk<E> whole_;
  int64_t saved_, rows_;
  Scratch<float> memory_;
  float *output_, *reserve_, *grad_output_ = nullptr, *input_ = nullptr;
  int64_t first_time_ = 0;  // of the chunk's layer
};

}  // namespace fastrnn
