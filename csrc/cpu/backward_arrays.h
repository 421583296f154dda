// The arrays of backward, a chunk of steps at a time: those of the call, or where kernels have no
// products of its type (widened.h) float32 copies. Of a type that is only stored, sums are float32.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../layer.h"
#include "plan.h"
#include "run.h"
#include "threads.h"
#include "widened.h"

namespace fastrnn {

// A float32 copy of n numbers in memory of `memory`; null stays null.
template <class E>
float* take_widened(Carver& memory, const E* given, int64_t n) {
  if (!given) return nullptr;
  float* copy = memory.take(n);
  widen(given, n, 1, n, copy);
  return copy;
}

// What kernels add gradients up in: the arrays of the call, or float32 ones that it gets narrowed.
template <class E, bool copied = kOnlyStored<E>>
struct SummedGradients {
  Gradients<E> sums;

  SummedGradients(Mode, const Shape&, const Gradients<E>& to) : sums(to) {}
  void finish() const {}
};

template <class E>
class SummedGradients<E, true> {
 public:
  Gradients<float> sums = {};  // but that of the input

  SummedGradients(Mode mode, const Shape& shape, const Gradients<E>& to)
      : to_(to), shape_(shape), rows_(gates(mode) * shape.H), memory_(elements()) {
    Carver memory(memory_);
    const int64_t states = shape.B * shape.H;
    const auto zeros = [&](const E* wanted, int64_t n) -> float* {
      if (!wanted) return nullptr;
      float* sum = memory.take(n);
      std::fill_n(sum, n, 0.0f);
      return sum;
    };
    sums.hx = take_widened(memory, to.hx, states);
    sums.cx = take_widened(memory, to.cx, states);
    sums.weight_ih = zeros(to.weight_ih, rows_ * shape.I);
    sums.weight_hh = zeros(to.weight_hh, rows_ * shape.H);
    sums.bias_ih = zeros(to.bias_ih, rows_), sums.bias_hh = zeros(to.bias_hh, rows_);
  }

  void finish() const {
    const auto [T, B, I, H] = shape_;
    const auto give = [](const float* from, int64_t n, E* to) {
      if (to) narrow(from, n, to);
    };
    give(sums.hx, B * H, to_.hx), give(sums.cx, B * H, to_.cx);
    give(sums.weight_ih, rows_ * I, to_.weight_ih);
    give(sums.weight_hh, rows_ * H, to_.weight_hh);
    give(sums.bias_ih, rows_, to_.bias_ih), give(sums.bias_hh, rows_, to_.bias_hh);
  }

 private:
  int64_t elements() const {
    const auto [T, B, I, H] = shape_;
    return 2 * B * H + rows_ * ((to_.weight_ih ? I : 0) + (to_.weight_hh ? H : 0) + 2);
  }

  const Gradients<E> to_;
  const Shape shape_;
  const int64_t rows_;
  Scratch<float> memory_;
};

template <class C>
struct BackwardChunk {
  LayerBackward<C> layer;
  Sequence<const C> input;
  C* grad_input;  // or null
};

template <class E, class C>
struct BackwardArrays {
  BackwardChunk<C> chunk;

  BackwardArrays(Mode, int64_t, const BackwardChunk<E>& whole) : chunk(whole) {}
  void load(int64_t begin, int64_t end) { chunk.layer.begin = begin, chunk.layer.end = end; }
  void store(int64_t, int64_t) const {}
};

template <class E>
class BackwardArrays<E, std::enable_if_t<kOnlyStored<E>, float>> {
 public:
  BackwardChunk<float> chunk = {};

  // `chunk_steps`: the most that a chunk has; copies hold the step before, too.
  BackwardArrays(Mode mode, int64_t chunk_steps, const BackwardChunk<E>& whole)
      : whole_(whole),
        saved_(reserve_per_unit(mode) * whole.layer.shape.H),
        memory_(elements(chunk_steps + 1)) {
    Carver memory(memory_);
    set_layer(memory, chunk_steps + 1);
    set_input(memory, chunk_steps + 1);
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
    if (!whole_.grad_input) return;
    const Timeline& timeline = whole_.layer.timeline;
    const int64_t I = whole_.layer.shape.I, first_time = timeline.first_time(begin, end);
    const int64_t first = timeline.first_row(first_time);
    const int64_t rows = timeline.first_row(first_time + end - begin) - first;
    const float* from = chunk.grad_input + (first - timeline.first_row(first_time_)) * I;
    E* to = whole_.grad_input + first * I;
    parallel_for(rows, items_per_thread(I), [&](int64_t row, int64_t row_end) {
      narrow(from + row * I, (row_end - row) * I, to + row * I);
    });
  }

 private:
  // What is copied of one row at one time.
  int64_t columns() const {
    const auto [T, B, I, H] = whole_.layer.shape;
    const int64_t inputs = (whole_.input.data ? I : 0) + (whole_.grad_input ? I : 0);
    return inputs + H + saved_ + (whole_.layer.grad_output.data ? H : 0);
  }

  int64_t elements(int64_t steps) const {
    const auto [T, B, I, H] = whole_.layer.shape;
    return 2 * B * H + steps * B * columns();
  }

  void set_layer(Carver& memory, int64_t steps) {
    const LayerBackward<E>& whole = whole_.layer;
    const int64_t B = whole.shape.B, H = whole.shape.H;
    LayerBackward<float>& layer = chunk.layer;
    layer.shape = whole.shape;
    layer.features = H;  // projections come in float32
    layer.wants_grad_hx = whole.wants_grad_hx;
    layer.hx = take_widened(memory, whole.hx, B * H);
    layer.cx = take_widened(memory, whole.cx, B * H);
    layer.output = output_ = memory.take(steps * B * H);
    layer.reserve = reserve_ = memory.take(steps * B * saved_);
    if (whole.grad_output.data) grad_output_ = memory.take(steps * B * H);
    layer.grad_output = {grad_output_, B * H, H, nullptr};
  }

  void set_input(Carver& memory, int64_t steps) {
    const auto [T, B, I, H] = whole_.layer.shape;
    if (whole_.input.data) input_ = memory.take(steps * B * I);
    if (whole_.grad_input) chunk.grad_input = memory.take(steps * B * I);
    chunk.input = {input_, B * I, I, nullptr};
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
  int64_t saved_;
  Scratch<float> memory_;
  float *output_, *reserve_, *grad_output_ = nullptr, *input_ = nullptr;
  int64_t first_time_ = 0;  // of the chunk's layer
};

}  // namespace fastrnn
