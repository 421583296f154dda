#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <type_traits>

#include "backward_arrays.h"
#include "kernels.h"
#include "machine.h"
#include "pack.h"
#include "plan.h"
#include "run.h"
#include "scratch.h"
#include "threads.h"
#include "tokens.h"

namespace fastrnn {
namespace {

constexpr int64_t kProductRows = 96;  // rows that stay in cache while all panels pass

// A matrix of weights that gradients are multiplied by: in panels, for the whole call, or where few
// rows come and panels would be whole, as it is.
template <class E, class C>
class Factor {
 public:
  Factor(const E* matrix, const ColumnPanels& panels, bool wanted, bool in_place)
      : in_place_(kWhole && in_place && panels.N % panels.columns == 0),
        memory_(wanted && !in_place_ ? panels.elements<C>() : 0),
        data_(memory_) {
    if constexpr (kWhole) {
      if (in_place_) data_ = matrix;
    }
    if (!wanted || in_place_) return;
    const Widened<E, C> widened(matrix, panels.K * panels.N);
    pack_columns<C>(panels, widened, memory_);
  }

  const Packed<C>* data() const { return data_; }
  bool in_place() const { return in_place_; }

 private:
  static constexpr bool kWhole = std::is_same_v<E, Packed<C>>;
  const bool in_place_;
  const Scratch<Packed<C>> memory_;
  const Packed<C>* data_;
};

// Backward in chunks of steps, from the last to the first: the gradients of a chunk's sums go into
// those of input and weights while they are in cache.
template <class T>
struct Backward {
  const KernelTable<T>& kernels;
  const Plan& plan;
  Mode mode;
  const LayerBackward<T>& layer;  // of the chunk
  const Sequence<const T>& input;
  T* grad_input;                        // or null
  const Gradients<Wide<T>>& gradients;  // but that of the input

  int64_t stride() const { return sums(mode) * layer.shape.H; }
  int64_t columns() const { return gates(mode) * layer.shape.H; }
  int64_t first_time() const { return layer.timeline.first_time(layer.begin, layer.end); }
  Timeline times() const {
    return layer.timeline.times(first_time(), first_time() + layer.end - layer.begin);
  }
  int64_t rows() const { return times().first_row(layer.end - layer.begin); }
  const T* hidden_sums() const { return layer.grad_sums + stride() - columns(); }
  // Sum row 0 of the input product is this row of weight_ih.
  int64_t input_rotation() const { return input_gate(mode, 0) * layer.shape.H; }
  // In the order of weight_ih: GRU's large gradients, those of n, are added last. Where that would
  // cut pairs apart, the weights are turned to the order of the sums instead.
  static constexpr bool kTurnsWeights = kPackedElements<T> > 1;
  ColumnPanels input_panels() const {
    return {columns(), layer.shape.I, plan.input_panel * kernels.width,
            kTurnsWeights ? input_rotation() : 0};
  }

  void recurrence() const {
    const auto [T_, B, I, H] = layer.shape;
    const auto backward = kernels.backward[static_cast<int64_t>(mode)];
    const auto body = [&](const Part& part) { backward(layer, part); };
    if (plan.unit_parts > 1) {
      return share_units(layer.shape, plan.unit_parts, plan.hidden_panel * kernels.width, true,
                         body);
    }
    share_rows(times(), H, items_per_thread(2 * (layer.end - layer.begin) * columns() * (I + H)),
               body);
  }

  template <class Factor>
  void to_input(const Factor& weight_ih) const {
    T* to = grad_input + layer.timeline.first_row(first_time()) * layer.shape.I;
    times_weights(layer.grad_sums, stride(), rows(), weight_ih, to);
  }

  // to (rows, I) = gradients of the input sums times weight_ih.
  template <class Factor>
  void times_weights(const T* sums, int64_t sums_stride, int64_t rows, const Factor& weight_ih,
                     T* to) const {
    const int64_t I = layer.shape.I, K = columns(), turn = kTurnsWeights ? 0 : K - input_rotation();
    parallel_for(rows, items_per_thread(2 * K * I), [&](int64_t begin, int64_t end) {
      const Scratch<Wide<T>> sum(kOnlyStored<T> ? kProductRows * I : 0);
      for (int64_t row = begin; row < end; row += kProductRows) {
        const int64_t count = std::min(end - row, kProductRows);
        Wide<T>* c = sum;
        if constexpr (!kOnlyStored<T>) c = to + row * I;
        kernels.product({sums + row * sums_stride, sums_stride, turn, weight_ih.data(),
                         weight_ih.in_place(), plan.input_panel, c, I, K, I, 0, I, false},
                        0, count);
        if constexpr (kOnlyStored<T>) narrow(c, count * I, to + row * I);
      }
    });
  }

  // add: to what the chunks before it gave; else the gradients are written.
  void to_weights(bool add) const {
    std::array<WeightGradient<T>, 3> all;
    size_t count = 0;
    const int64_t F = layer.features;
    const bool to_hidden = gradients.weight_hh || gradients.bias_hh;
    const bool gathers = layer.timeline.offsets;
    if (gradients.weight_ih || gradients.bias_ih) {
      all[count++] = {layer.grad_sums,
                      stride(),
                      gradients.weight_ih ? operand(input.from(first_time())) : Sequence<const T>{},
                      operand_rows(),
                      rows(),
                      columns(),
                      layer.shape.I,
                      nullptr,
                      input_rotation(),
                      gradients.weight_ih,
                      gradients.bias_ih,
                      add,
                      nullptr};
    }
    if (to_hidden && !gathers) {
      // h_prev is hx at step 0 and the output of the step before at all others.
      const int64_t begin = std::max<int64_t>(layer.begin, 1);
      if (begin < layer.end) {
        const int64_t before = layer.timeline.first_time(begin - 1, layer.end - 1);
        const T* h_prev = layer.output + layer.timeline.first_row(before) * F;
        all[count++] = hidden_gradient(begin, layer.end, h_prev, add);
      }
      if (layer.begin == 0) {
        all[count++] = hidden_gradient(0, 1, layer.hx, add || begin < layer.end);
      }
    }
    const Scratch<T> h_prev(to_hidden && gathers ? rows() * F : 0);
    if (to_hidden && gathers) {
      gather_h_prev(h_prev);
      all[count++] = hidden_gradient(layer.begin, layer.end, h_prev, add);
    }
    run(all.data(), count);
  }

  void to_tokens(const TokenSums<T>& sums) const {
    sums.add(layer.grad_sums, stride(), layer.timeline.first_row(first_time()), rows(), nullptr, 1);
  }

  // From the sums over the rows of each token, with which all chunks end.
  void from_tokens(const T* totals, const Distinct& distinct, const Weights<T>& weights,
                   const Gradients<T>& to) const {
    const int64_t I = layer.shape.I, M = columns(), count = distinct.count();
    if (!weights.embedding) {
      std::fill_n(to.weight_ih, M * I, T(0));
      return parallel_for(M, items_per_thread(kFlopPerCopy * count), [&](int64_t m, int64_t end) {
        for (; m < end; ++m) {
          T* row = to.weight_ih + (m + input_rotation()) % M * I;
          for (int64_t k = 0; k < count; ++k) row[distinct.tokens()[k]] = totals[k * M + m];
        }
      });
    }
    const Scratch<T> rows(count * I);
    if (to.weight_ih) {
      gather_rows(weights.embedding, distinct.tokens(), count, I, static_cast<T*>(rows));
      const WeightGradient<T> gradient{totals,
                                       M,
                                       {rows, count * I, I, nullptr},
                                       count,
                                       count,
                                       M,
                                       I,
                                       nullptr,
                                       input_rotation(),
                                       to.weight_ih,
                                       nullptr,
                                       false,
                                       nullptr};
      run(&gradient, 1);
    }
    if (!to.embedding) return;
    const Factor<T, T> weight_ih(weights.weight_ih, input_panels(), true, false);
    times_weights(totals, M, count, weight_ih, rows);
    std::fill_n(to.embedding, weights.vocabulary * I, T(0));
    scatter_rows(static_cast<const T*>(rows), distinct.tokens(), count, I, to.embedding);
  }

  void to_projection(bool add) const {
    const int64_t B = operand_rows(), H = layer.shape.H;
    const WeightGradient<T> gradient{layer.grad_projected,
                                     layer.features,
                                     {layer.unprojected, B * H, H, nullptr},
                                     B,
                                     rows(),
                                     layer.features,
                                     H,
                                     nullptr,
                                     0,
                                     gradients.weight_hr,
                                     nullptr,
                                     add,
                                     nullptr};
    run(&gradient, 1);
  }

 private:
  // Rows of uneven times have no gaps between them: they are those of a single time.
  Sequence<const T> operand(const Sequence<const T>& sequence) const {
    return {sequence.data, sequence.step_stride, sequence.row_stride, nullptr};
  }
  int64_t operand_rows() const { return layer.timeline.offsets ? rows() : layer.shape.B; }

  WeightGradient<T> hidden_gradient(int64_t begin, int64_t end, const T* h_prev, bool add) const {
    const int64_t B = operand_rows(), F = layer.features,
                  first = layer.timeline.first_time(begin, end);
    const Timeline steps = layer.timeline.times(first, first + end - begin);
    const int64_t offset = layer.timeline.first_row(first) - layer.timeline.first_row(first_time());
    return {hidden_sums() + offset * stride(),
            stride(),
            {h_prev, B * F, F, nullptr},
            B,
            steps.first_row(end - begin),
            columns(),
            F,
            layer.timeline.offsets ? nullptr : layer.mask,  // gather_h_prev has masked
            0,
            gradients.weight_hh,
            gradients.bias_hh,
            add,
            nullptr};
  }

  // The state before each row of the chunk, where that is no array already; masked.
  void gather_h_prev(T* to) const {
    const Timeline& timeline = layer.timeline;
    const int64_t F = layer.features, base = timeline.first_row(first_time());
    for (int64_t step = layer.begin; step < layer.end; ++step) {
      const int64_t t = timeline.time(step), n = timeline.rows(t);
      const int64_t before = std::min(timeline.rows_before(step), n);
      T *rows = to + (timeline.first_row(t) - base) * F, *row = rows;
      if (before > 0) {
        const int64_t from = timeline.first_row(timeline.time(step - 1));
        row = std::copy_n(layer.output + from * F, before * F, row);
      }
      std::copy_n(layer.hx + before * F, (n - before) * F, row);
      if constexpr (!kOnlyStored<T>) {
        if (layer.mask) std::transform(rows, rows + n * F, layer.mask, rows, std::multiplies<T>());
      }
    }
  }

  // Threads share the rows of the gradients, not those of the sums: each element is one thread's.
  void run(const WeightGradient<T>* all, size_t count) const {
    const int64_t tile = kernels.gradient_rows, M = count > 0 ? all[0].M : 0;
    int64_t flop = 0, widest = 0;
    for (size_t i = 0; i < count; ++i) {
      flop += 2 * all[i].rows * all[i].N * tile;
      widest = std::max(widest, all[i].N);
    }
    parallel_for((M + tile - 1) / tile, items_per_thread(flop), [&](int64_t begin, int64_t end) {
      const int64_t first = begin * tile, last = std::min(end * tile, M);
      const Scratch<T> scratch(kernels.weight_gradient_scratch(last - first, widest));
      for (size_t i = 0; i < count; ++i) {
        WeightGradient<T> part = all[i];
        part.scratch = scratch;
        kernels.weight_gradient(part, first, last);
      }
    });
  }
};

// What backward writes for itself: arrays of a LayerBackward.
template <class C>
struct Memory {
  const Scratch<C> grad_sums, unprojected, grad_projected;
  const Scratch<Wide<C>> grad_unprojected;

  // rows: of a chunk.
  Memory(const LayerBackward<C>& layer, int64_t sum_columns, int64_t rows, bool projects)
      : grad_sums(rows * sum_columns),
        unprojected(projects ? rows * layer.shape.H : 0),
        grad_projected(projects ? rows * layer.features : 0),
        grad_unprojected(projects ? layer.shape.B * layer.shape.H : 0) {}

  void give(LayerBackward<C>& layer) const {
    layer.grad_sums = grad_sums;
    layer.unprojected = unprojected;
    layer.grad_projected = grad_projected;
    layer.grad_unprojected = grad_unprojected;
  }
};

// E is the type of the call's arrays, C the one that its kernels take (with_kernel_type).
template <class C, class E>
void run_as(Mode mode, const LayerBackward<E>& call, const Sequence<const E>& input,
            const int32_t* tokens, const Weights<E>& weights, const Gradients<E>& gradients) {
  const auto [T_, B, I, H] = call.shape;
  const Timeline& timeline = call.timeline;
  const int64_t F = call.features;
  Shape shape = call.shape;
  if (tokens && !weights.embedding) shape.I = 0;  // there is no product with weight_ih
  const Plan plan = plan_layer(mode, shape, F, sizeof(C), current_machine());
  const KernelTable<C>& kernels = current_kernels().table<C>();
  const int64_t columns = gates(mode) * H, width = kernels.width;
  const int64_t rows = std::min(plan.backward_steps * B, timeline.first_row(T_));
  const Sequence<const E> used = gradients.weight_ih ? input : Sequence<const E>{};
  BackwardArrays<E, C> arrays(mode, plan.backward_steps, {call, used, gradients.input});
  const SummedGradients<E> summed(mode, call.shape, gradients);
  LayerBackward<C>& layer = arrays.chunk.layer;
  const Factor<E, C> weight_hr(weights.weight_hr, ColumnPanels{F, H, plan.unit_panel * width},
                               weights.weight_hr, false);
  const Memory<C> memory(layer, sums(mode) * H, rows, weights.weight_hr);
  memory.give(layer);
  layer.row_block = plan.row_block;
  layer.rows_per_vector = plan.rows_per_vector;
  layer.panel_vectors = plan.hidden_panel;
  layer.projection = weights.weight_hr ? weight_hr.data() : nullptr;
  layer.projection_panel = plan.unit_panel;
  layer.grad_h = summed.sums.hx;
  layer.grad_c = summed.sums.cx;

  // Where both products feed the same sums, so do both biases.
  Gradients<Wide<C>> added = summed.sums;
  std::optional<Distinct> distinct;
  std::optional<TokenSums<Wide<C>>> token_sums;
  if (tokens && (added.weight_ih || added.embedding)) {
    distinct.emplace(tokens, timeline.first_row(T_), weights.vocabulary);
    token_sums.emplace(*distinct, columns);
    added.weight_ih = nullptr;
  }
  const bool same_bias = added.bias_ih && added.bias_hh && gates(mode) == sums(mode);
  if (same_bias) added.bias_hh = nullptr;
  const Backward<C> chunk{kernels, plan, mode, layer, arrays.chunk.input, arrays.chunk.grad_input,
                          added};
  // From their first use to their last: where all steps are one chunk, one at a time.
  std::optional<Factor<E, C>> weight_hh, weight_ih;
  for (int64_t begin, end = T_; end > 0 && B > 0; end = begin) {
    begin = std::max<int64_t>(0, end - plan.backward_steps);
    arrays.load(begin, end);
    if (!weight_hh) {
      weight_hh.emplace(weights.weight_hh, ColumnPanels{columns, F, plan.hidden_panel * width},
                        T_ > 1 || layer.wants_grad_hx, plan.in_place);
      layer.weights = weight_hh->data();
      layer.in_place = weight_hh->in_place();
    }
    chunk.recurrence();
    if (begin == 0) weight_hh.reset();
    if (gradients.input) {
      if (!weight_ih) {
        weight_ih.emplace(weights.weight_ih, chunk.input_panels(), true, plan.in_place);
      }
      chunk.to_input(*weight_ih);
      if (begin == 0) weight_ih.reset();
    }
    chunk.to_weights(end < T_);
    if constexpr (!kOnlyStored<C>) {
      if (token_sums) chunk.to_tokens(*token_sums);
      if (added.weight_hr) chunk.to_projection(end < T_);
    }
    arrays.store(begin, end);
  }
  if constexpr (!kOnlyStored<E>) {
    if (token_sums && timeline.first_row(T_) > 0)
      chunk.from_tokens(token_sums->totals(), *distinct, weights, gradients);
  }
  if (same_bias) std::copy_n(added.bias_ih, columns, summed.sums.bias_hh);
  summed.finish();
}

}  // namespace

template <class E>
void run_backward(Mode mode, const LayerBackward<E>& layer, const Sequence<const E>& input,
                  const int32_t* tokens, const Weights<E>& weights, const Gradients<E>& gradients) {
  with_kernel_type<E>(
      [&](auto zero) { run_as<decltype(zero)>(mode, layer, input, tokens, weights, gradients); });
}

template void run_backward(Mode, const LayerBackward<float>&, const Sequence<const float>&,
                           const int32_t*, const Weights<float>&, const Gradients<float>&);
template void run_backward(Mode, const LayerBackward<double>&, const Sequence<const double>&,
                           const int32_t*, const Weights<double>&, const Gradients<double>&);
template void run_backward(Mode, const LayerBackward<Bf16>&, const Sequence<const Bf16>&,
                           const int32_t*, const Weights<Bf16>&, const Gradients<Bf16>&);
template void run_backward(Mode, const LayerBackward<Half16>&, const Sequence<const Half16>&,
                           const int32_t*, const Weights<Half16>&, const Gradients<Half16>&);

}  // namespace fastrnn
