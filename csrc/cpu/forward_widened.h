// Forward of a type that is only stored (half.h), on one thread.
#pragma once

#include <algorithm>
#include <vector>

#include "../layer.h"
#include "widened.h"

namespace fastrnn {

// Some steps of some rows in float32, the arrays of a LayerForward<float>.
template <class E>
class ForwardChunk {
 public:
  // wide: what does not depend on the steps.
  ForwardChunk(Mode mode, const LayerForward<E>& layer, const LayerForward<float>& wide,
               int64_t begin, int64_t end)
      : layer_(layer),
        begin_(begin),
        rows_(end - begin),
        saved_(layer.reserve ? reserve_per_unit(mode) : 0),
        steps_(std::clamp<int64_t>(kElements / step_elements(), 1,
                                   std::max<int64_t>(layer.shape.T, 1))),
        memory_(steps_ * step_elements() + 3 * states()),
        offsets_(layer.timeline.offsets ? steps_ + 1 : 0),
        part_(wide) {
    const auto [T, B, I, H] = layer.shape;
    Carver memory(memory_);
    input_ = memory.take(steps_ * rows_ * I);
    part_.shape = {0, rows_, I, H};
    part_.row_block = rows_;
    part_.input = {input_, rows_ * I, I, offsets()};
    if (wide.projected) {
      part_.projected += begin_ * gates(mode) * wide.vectors_per_gate * current_kernels().f32.width;
    }
    part_.output = memory.take(steps_ * states());
    part_.output_stride = H;
    part_.reserve = saved_ > 0 ? memory.take(steps_ * saved_ * states()) : nullptr;
    h_ = memory.take(states());
    part_.h_n = memory.take(states());
    part_.carried = layer.cx ? memory.take(states()) : nullptr;
  }

  void run(void (*kernel)(const LayerForward<float>&, const Part&)) {
    const int64_t T = layer_.shape.T, H = layer_.shape.H, first = begin_ * H;
    widen(layer_.hx + first, H, rows_, H, h_);
    if (layer_.cx) widen(layer_.cx + first, H, rows_, H, part_.carried);
    for (int64_t step = 0, end; step < T; step = end) {
      end = std::min(step + steps_, T);
      load(step, end);
      kernel(part_, {0, rows_, 0, H});
      store(step, end);
      // Unrounded: only what leaves the layer is narrowed.
      std::swap(h_, part_.h_n);
    }
    narrow(h_, states(), layer_.h_n + first);
    if (layer_.cx) narrow(part_.carried, states(), layer_.c_n + first);
  }

 private:
  // A share of the cache that the weights leave, and enough to make the calls few.
  static constexpr int64_t kElements = 16 * 1024;

  int64_t states() const { return rows_ * layer_.shape.H; }
  const int64_t* offsets() const { return offsets_.empty() ? nullptr : offsets_.data(); }
  // The chunk's rows that the layer has at a time.
  int64_t rows(int64_t t) const {
    return std::clamp<int64_t>(layer_.timeline.rows(t) - begin_, 0, rows_);
  }
  int64_t step_elements() const { return rows_ * layer_.shape.I + (1 + saved_) * states(); }

  void load(int64_t step, int64_t end) {
    const int64_t I = layer_.shape.I, first = layer_.timeline.first_time(step, end);
    for (int64_t t = 0; t < end - step && !offsets_.empty(); ++t) {
      offsets_[t + 1] = offsets_[t] + rows(first + t);
    }
    part_.shape.T = end - step;
    part_.timeline = {end - step, rows_, layer_.timeline.reverse, offsets()};
    for (int64_t t = 0; t < end - step; ++t) {
      widen(layer_.input.at(first + t, begin_), layer_.input.row_stride, rows(first + t), I,
            input_ + part_.timeline.first_row(t) * I);
    }
    part_.hx = h_;
  }

  void store(int64_t step, int64_t end) {
    const int64_t H = layer_.shape.H, first = layer_.timeline.first_time(step, end);
    for (int64_t t = 0; t < end - step; ++t) {
      const int64_t to = layer_.timeline.first_row(first + t) + begin_, n = rows(first + t);
      const int64_t from = part_.timeline.first_row(t);
      const int64_t run = layer_.output_stride == H ? n : 1;  // rows without a gap
      for (int64_t r = 0; layer_.output && r < n; r += run) {
        narrow(part_.output + (from + r) * H, run * H,
               layer_.output + (to + r) * layer_.output_stride);
      }
      if (!part_.reserve) continue;
      narrow(part_.reserve + from * H * saved_, n * H * saved_, layer_.reserve + to * H * saved_);
    }
  }

  const LayerForward<E>& layer_;
  int64_t begin_, rows_, saved_, steps_;
  Scratch<float> memory_;
  std::vector<int64_t> offsets_;
  LayerForward<float> part_;
  float *input_, *h_;
};

// Rows [begin, end), all steps: what kernel does for arrays of float. wide: sizes, weights and
// plan.
template <class E>
void forward_widened(Mode mode, void (*kernel)(const LayerForward<float>&, const Part&),
                     const LayerForward<E>& layer, const LayerForward<float>& wide, int64_t begin,
                     int64_t end) {
  for (int64_t row = begin; row < end; row += wide.row_block) {
    ForwardChunk<E>(mode, layer, wide, row, std::min(end, row + wide.row_block)).run(kernel);
  }
}

}  // namespace fastrnn
