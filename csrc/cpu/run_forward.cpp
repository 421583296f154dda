#include <algorithm>
#include <optional>
#include <type_traits>

#include "forward_widened.h"
#include "kernels.h"
#include "machine.h"
#include "pack.h"
#include "packed_cache.h"
#include "plan.h"
#include "run.h"
#include "scratch.h"
#include "threads.h"
#include "tokens.h"

namespace fastrnn {
namespace {

template <class E>
ForwardPanels panels_of(Mode mode, const LayerForward<E>& layer, const Plan& plan) {
  return {mode,
          layer.shape,
          layer.features,
          current_kernels().table<Wide<E>>().width,
          plan.vectors_per_gate,
          plan.rows_per_vector,
          plan.bfloat16_weights};
}

template <class E>
void pack_biases(const ForwardPanels& panels, const Weights<E>& weights, Wide<E>* packed) {
  const int64_t rows = gates(panels.mode) * panels.shape.H;
  const Widened<E> bias_ih(weights.bias_ih, rows), bias_hh(weights.bias_hh, rows);
  pack_bias<Wide<E>>(panels, bias_ih, bias_hh, packed);
}

template <class T, class W>
void pack_weights(const ForwardPanels& panels, const T* weight_ih, const W* weight_hh, T* packed) {
  const int64_t grain = items_per_thread(kFlopPerCopy * panels.block_weights());
  parallel_for(panels.blocks(), grain, [&](int64_t begin, int64_t end) {
    pack_forward(panels, begin, end, weight_ih, weight_hh, packed);
  });
}

// The right-hand side of h's projection, where there is one.
ColumnPanels projection_panels(const ForwardPanels& panels, const Plan& plan, bool projects) {
  return {panels.shape.H, projects ? panels.features : 0, plan.hidden_panel * panels.width};
}

// weight_hr (P, H) comes with a row for each column.
template <class E>
void pack_projection(const ColumnPanels& panels, const E* weight_hr, Wide<E>* packed) {
  const Scratch<Wide<E>> transposed(panels.K * panels.N);
  const Widened<E> weight(weight_hr, panels.K * panels.N);
  for (int64_t n = 0; n < panels.N; ++n) {
    for (int64_t k = 0; k < panels.K; ++k) transposed[k * panels.N + n] = weight[n * panels.K + k];
  }
  pack_columns<Wide<E>>(panels, transposed, packed);
}

// [biases][weights], before the projection.
template <class E>
void pack_all(const ForwardPanels& panels, const Weights<E>& weights, Wide<E>* packed) {
  typedef Wide<E> T;
  pack_biases(panels, weights, packed);
  const int64_t F = panels.features, rows = gates(panels.mode) * panels.shape.H;
  const Widened<E> weight_ih(weights.weight_ih, rows * panels.shape.I);
  T* to = packed + panels.biases();
  if constexpr (std::is_same_v<T, float>) {
    if (panels.bfloat16) {
      const Narrowed<E> weight_hh(weights.weight_hh, rows * F);
      return pack_weights<T, Bf16>(panels, weight_ih, weight_hh, to);
    }
  }
  const Widened<E> weight_hh(weights.weight_hh, rows * F);
  pack_weights<T, T>(panels, weight_ih, weight_hh, to);
}

// What tells one packing from all others. I: of the input weights that it has something of;
// vocabulary: of a table in it, or 0.
template <class E>
PackedKey packed_key(const ForwardPanels& panels, const Weights<E>& weights, int64_t I,
                     int64_t vocabulary = 0) {
  const int64_t H = panels.shape.H;
  const int64_t rows = gates(panels.mode) * H, F = panels.features, bytes = sizeof(E);
  const auto fingerprint = current_kernels().fingerprint;
  uint64_t contents = fingerprint(weights.weight_ih, rows * I * bytes, 0);
  contents = fingerprint(weights.weight_hh, rows * F * bytes, contents);
  if (weights.weight_hr) contents = fingerprint(weights.weight_hr, F * H * bytes, contents);
  const E* embedding = vocabulary > 0 ? weights.embedding : nullptr;
  if (embedding) contents = fingerprint(embedding, vocabulary * I * bytes, contents);
  if (weights.bias_ih) {
    contents = fingerprint(weights.bias_ih, rows * bytes, contents);
    contents = fingerprint(weights.bias_hh, rows * bytes, contents);
  }
  return {{weights.weight_ih, weights.weight_hh, weights.bias_ih, weights.bias_hh,
           weights.weight_hr, embedding},
          {static_cast<int64_t>(panels.mode), I, H, F, panels.width, panels.vectors, panels.copies,
           panels.bfloat16, bytes, vocabulary},
          contents};
}

// Outputs that nobody wants are kept for so many bytes' worth of steps.
constexpr int64_t kOutputBytes = 128 * 1024;

template <class E, class Kernel>
void share_layer(Mode mode, const LayerForward<E>& layer, const Plan& plan, int64_t block,
                 const Kernel& kernel) {
  if constexpr (kOnlyStored<E>) {
    share_rows(layer.timeline, layer.shape.H, plan.rows_per_thread, [&](const Part& part) {
      forward_widened(mode, kernel, layer, part.row, part.row_end);
    });
  } else if (plan.unit_parts > 1) {
    share_units(layer.shape, plan.unit_parts, block, layer.shape.T > 1,
                [&](const Part& part) { kernel(layer, part); });
  } else {
    share_rows(layer.timeline, layer.shape.H, plan.rows_per_thread,
               [&](const Part& part) { kernel(layer, part); });
  }
}

// Where the output is not wanted, a few steps at a time: each step needs that of the one before.
template <class E, class Kernel>
void run_parts(Mode mode, const LayerForward<E>& layer, const Plan& plan, int64_t block,
               const Kernel& kernel) {
  if (layer.output || kOnlyStored<E>) return share_layer(mode, layer, plan, block, kernel);
  const auto [T, B, I, H] = layer.shape;
  const int64_t states = B * layer.features;
  const int64_t step_bytes = std::max<int64_t>(1, states * sizeof(E));
  const int64_t steps = std::max<int64_t>(1, kOutputBytes / step_bytes);
  const int64_t chunks =
      std::max<int64_t>(1, (T + steps - 1) / steps);  // states pass without steps
  const Scratch<E> memory((std::min(T, steps) + 1) * states + B * H);
  LayerForward<E> part = layer;
  part.output = memory;
  part.output_stride = layer.features;
  // The states alternate between memory and their place, where the last chunk leaves them.
  E* const spare = memory + std::min(T, steps) * states;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = chunk * steps, end = std::min(T, begin + steps);
    const int64_t first = layer.timeline.first_time(begin, end);
    const bool last_place = (chunks - 1 - chunk) % 2 == 0;
    part.shape.T = end - begin;
    part.timeline = layer.timeline.times(first, first + end - begin);
    if (layer.tokens) {
      part.tokens = layer.tokens + layer.timeline.first_row(first);
    } else {
      part.input = layer.input.from(first);
    }
    part.h_n = last_place ? layer.h_n : spare;
    if (layer.cx) part.c_n = last_place ? layer.c_n : spare + states;
    share_layer(mode, part, plan, block, kernel);
    part.hx = part.h_n;
    part.cx = part.c_n;
  }
}

// The weights are read where they are.
template <class E>
void run_single_step(Mode mode, LayerForward<E> layer, const Plan& plan,
                     const ForwardPanels& panels, const Weights<E>& weights) {
  typedef Wide<E> T;
  const int64_t rows = gates(mode) * layer.shape.H;
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const Widened<E> weight_ih(weights.weight_ih, rows * layer.shape.I);
  const Widened<E> weight_hh(weights.weight_hh, rows * layer.shape.H);
  const Scratch<T> bias(panels.biases());
  pack_biases(panels, weights, static_cast<T*>(bias));
  layer.row_block = layer.shape.B;
  layer.weight_ih = weight_ih;
  layer.weight_hh = weight_hh;
  layer.bias = bias;
  run_parts(mode, layer, plan, kernels.width, kernels.single_step[static_cast<int64_t>(mode)]);
}

// Not by the threads of the layer: those that share units would have to meet before the first step.
template <class E>
void begin_masked(const LayerForward<E>& layer, int64_t states, Wide<E>* masked) {
  if constexpr (!kOnlyStored<E>) {
    for (int64_t i = 0; i < states; ++i) {
      masked[i] = masked[states + i] = layer.hx[i] * layer.mask[i];
    }
  }
}

template <class E>
void run_steps(Mode mode, LayerForward<E> layer, const Plan& plan, const ForwardPanels& panels,
               const Wide<E>* packed) {
  typedef Wide<E> T;
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const int64_t panel = gates(mode) * panels.lanes();
  const Scratch<T> projected(panels.blocks() * plan.projected_steps * layer.shape.B * panel);
  const bool projects = layer.features < layer.shape.H;
  const Scratch<T> unprojected(projects ? layer.shape.B * layer.shape.H : 0);
  if (projects) layer.projection = packed + panels.biases() + panels.weights();
  layer.projection_panel = plan.hidden_panel;
  layer.unprojected = unprojected;
  layer.weights = packed + panels.biases();
  layer.bias = packed;
  const int64_t states = layer.mask ? layer.shape.B * layer.features : 0;
  const Scratch<T> masked(2 * states);
  begin_masked(layer, states, static_cast<T*>(masked));
  layer.masked = masked;
  layer.row_block = plan.row_block;
  layer.vectors_per_gate = plan.vectors_per_gate;
  layer.rows_per_vector = plan.rows_per_vector;
  layer.bfloat16_weights = plan.bfloat16_weights;
  layer.projected_steps = plan.projected_steps;
  layer.projected = plan.projected_steps > 0 ? static_cast<T*>(projected) : nullptr;
  layer.projected_rows = layer.shape.B;
  run_parts(mode, layer, plan, panels.units(), kernels.forward[static_cast<int64_t>(mode)]);
}

// Of hidden weights and biases, and of the projection behind them.
template <class E>
void pack_recurrence(const ForwardPanels& panels, const ColumnPanels& projection,
                     const Weights<E>& weights, Wide<E>* packed) {
  pack_all(panels, weights, packed);
  if (!weights.weight_hr) return;
  pack_projection(projection, weights.weight_hr, packed + panels.biases() + panels.weights());
}

// Tokens come as ids. Behind what else is packed, [table of the vocabulary] where that is kept.
template <class T>
void run_tokens(Mode mode, LayerForward<T> layer, const Weights<T>& weights, bool keep_packed) {
  const int64_t I = layer.shape.I, V = weights.vocabulary;
  layer.shape.I = 0;
  const Plan plan = plan_layer(mode, layer.shape, layer.features, sizeof(T), current_machine(),
                               false, V, keep_packed);
  const ForwardPanels panels = panels_of(mode, layer, plan);
  const ColumnPanels projection = projection_panels(panels, plan, weights.weight_hr);
  const int64_t before = panels.biases() + panels.weights() + projection.elements();
  const int64_t row = panels.blocks() * gates(mode) * panels.lanes();
  std::optional<Distinct> distinct;
  if (!plan.whole_table) distinct.emplace(layer.tokens, layer.timeline.first_row(layer.shape.T), V);
  const Scratch<T> table(distinct ? distinct->count() * row : 0);
  if (distinct) {
    form_table(panels, weights, I, distinct->tokens(), distinct->count(), static_cast<T*>(table));
    layer.tokens = distinct->places();
  }
  layer.table = table;
  layer.table_rows = distinct ? distinct->count() : V;
  const auto fill = [&](void* memory) {
    T* packed = static_cast<T*>(memory);
    pack_recurrence(panels, projection, weights, packed);
    if (plan.whole_table) form_table(panels, weights, I, nullptr, V, packed + before);
  };
  if (!keep_packed) {
    const Scratch<T> packed(before);
    fill(packed);
    return run_steps(mode, layer, plan, panels, static_cast<const T*>(packed));
  }
  const int64_t elements = before + (plan.whole_table ? V * row : 0);
  const PackedKey key =
      packed_key(panels, weights, plan.whole_table ? I : 0, plan.whole_table ? V : 0);
  const auto kept = kept_packing(key, elements * sizeof(T), fill);
  const T* packed = static_cast<const T*>(kept.get());
  if (plan.whole_table) layer.table = packed + before;
  run_steps(mode, layer, plan, panels, packed);
}

}  // namespace

template <class E>
void run_forward(Mode mode, LayerForward<E> layer, const Weights<E>& weights, bool keep_packed,
                 bool bfloat16_weights) {
  typedef Wide<E> T;
  if constexpr (!kOnlyStored<E>) {
    if (layer.tokens) return run_tokens(mode, layer, weights, keep_packed);
  }
  const bool bfloat16 = std::is_same_v<E, Bf16> || (std::is_same_v<E, float> && bfloat16_weights);
  const Plan plan = plan_layer(mode, layer.shape, layer.features, sizeof(T), current_machine(),
                               bfloat16, 0, false, layer.mask != nullptr);
  const ForwardPanels panels = panels_of(mode, layer, plan);
  if (plan.single_step) return run_single_step(mode, layer, plan, panels, weights);
  const ColumnPanels projection = projection_panels(panels, plan, weights.weight_hr);
  const int64_t elements = panels.biases() + panels.weights() + projection.elements();
  const auto fill = [&](void* memory) {
    pack_recurrence(panels, projection, weights, static_cast<T*>(memory));
  };
  if (!keep_packed) {
    const Scratch<T> packed(elements);
    fill(packed);
    return run_steps(mode, layer, plan, panels, packed);
  }
  const auto packed =
      kept_packing(packed_key(panels, weights, panels.shape.I), elements * sizeof(T), fill);
  run_steps(mode, layer, plan, panels, static_cast<const T*>(packed.get()));
}

template void run_forward(Mode, LayerForward<float>, const Weights<float>&, bool, bool);
template void run_forward(Mode, LayerForward<double>, const Weights<double>&, bool, bool);
template void run_forward(Mode, LayerForward<Bf16>, const Weights<Bf16>&, bool, bool);
template void run_forward(Mode, LayerForward<Half16>, const Weights<Half16>&, bool, bool);

}  // namespace fastrnn
