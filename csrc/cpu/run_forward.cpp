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

// E is the type of the call's arrays, C the one that its kernels take (with_kernel_type).

template <class C>
ForwardPanels panels_of(Mode mode, const LayerForward<C>& layer, const Plan& plan) {
  return {mode,
          layer.shape,
          layer.features,
          current_kernels().table<C>().width,
          plan.vectors_per_gate,
          plan.rows_per_vector,
          kPackedElements<C>,
          plan.bfloat16_weights};
}

template <class E>
void pack_biases(const ForwardPanels& panels, const Weights<E>& weights, Wide<E>* packed) {
  const int64_t rows = gates(panels.mode) * panels.shape.H;
  const Widened<E> bias_ih(weights.bias_ih, rows), bias_hh(weights.bias_hh, rows);
  pack_bias<Wide<E>>(panels, bias_ih, bias_hh, packed);
}

template <class T, class W>
void pack_weights(const ForwardPanels& panels, const T* weight_ih, const W* weight_hh,
                  Packed<T>* packed) {
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
template <class T>
void pack_projection(const ColumnPanels& panels, const T* weight_hr, T* packed) {
  const Scratch<T> transposed(panels.K * panels.N);
  for (int64_t n = 0; n < panels.N; ++n) {
    for (int64_t k = 0; k < panels.K; ++k) {
      transposed[k * panels.N + n] = weight_hr[n * panels.K + k];
    }
  }
  pack_columns<T>(panels, transposed, packed);
}

// [biases][weights], before the projection.
template <class E, class C>
void pack_all(const ForwardPanels& panels, const Weights<E>& weights, Wide<C>* packed) {
  pack_biases(panels, weights, packed);
  const int64_t F = panels.features, rows = gates(panels.mode) * panels.shape.H;
  const Widened<E, C> weight_ih(weights.weight_ih, rows * panels.shape.I);
  Packed<C>* to = reinterpret_cast<Packed<C>*>(packed + panels.biases());
  if constexpr (std::is_same_v<C, float>) {
    if (panels.bfloat16) {
      const Narrowed<E> weight_hh(weights.weight_hh, rows * F);
      return pack_weights<C, Bf16>(panels, weight_ih, weight_hh, to);
    }
  }
  const Widened<E, C> weight_hh(weights.weight_hh, rows * F);
  pack_weights<C, C>(panels, weight_ih, weight_hh, to);
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
           panels.elements, panels.bfloat16, bytes, vocabulary},
          contents};
}

// Outputs that nobody wants are kept for so many bytes' worth of steps.
constexpr int64_t kOutputBytes = 128 * 1024;

template <class E, class C, class Kernel>
void share_layer(Mode mode, const LayerForward<E>& call, const LayerForward<C>& layer,
                 const Plan& plan, int64_t block, const Kernel& kernel) {
  if constexpr (!std::is_same_v<E, C>) {
    share_rows(call.timeline, call.shape.H, plan.rows_per_thread, [&](const Part& part) {
      forward_widened(mode, kernel, call, layer, part.row, part.row_end);
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
template <class T, class Kernel>
void run_chunks(Mode mode, const LayerForward<T>& layer, const Plan& plan, int64_t block,
                const Kernel& kernel) {
  const auto [T_, B, I, H] = layer.shape;
  const int64_t states = B * layer.features;
  const int64_t step_bytes = std::max<int64_t>(1, states * sizeof(T));
  const int64_t steps = std::max<int64_t>(1, kOutputBytes / step_bytes);
  const int64_t chunks =
      std::max<int64_t>(1, (T_ + steps - 1) / steps);  // states pass without steps
  const Scratch<T> memory((std::min(T_, steps) + 1) * states);
  LayerForward<T> part = layer;
  part.output = memory;
  part.output_stride = layer.features;
  // h alternates between memory and its place, where the last chunk leaves it.
  T* const spare = memory + std::min(T_, steps) * states;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = chunk * steps, end = std::min(T_, begin + steps);
    const int64_t first = layer.timeline.first_time(begin, end);
    part.shape.T = end - begin;
    part.timeline = layer.timeline.times(first, first + end - begin);
    if (layer.tokens) {
      part.tokens = layer.tokens + layer.timeline.first_row(first);
    } else {
      part.input = layer.input.from(first);
    }
    part.h_n = (chunks - 1 - chunk) % 2 == 0 ? layer.h_n : spare;
    share_layer(mode, layer, part, plan, block, kernel);
    part.hx = part.h_n;
  }
}

template <class E, class C, class Kernel>
void run_parts(Mode mode, const LayerForward<E>& call, LayerForward<C>& layer, const Plan& plan,
               int64_t block, const Kernel& kernel) {
  if constexpr (!std::is_same_v<E, C>) {
    share_layer(mode, call, layer, plan, block, kernel);
  } else {
    const int64_t states = layer.shape.B * layer.shape.H;
    const bool rounds = kOnlyStored<C> && reserve_per_unit(mode) > 0;
    const Scratch<Wide<C>> unrounded(rounds ? states : 0);
    if constexpr (kOnlyStored<C>) {
      layer.carried = rounds ? static_cast<float*>(unrounded) : nullptr;
      if (rounds) widen(layer.cx ? layer.cx : layer.hx, states, 1, states, layer.carried);
    } else {
      layer.carried = layer.c_n;
      if (layer.cx) std::copy_n(layer.cx, states, layer.c_n);
    }
    if (layer.output) {
      share_layer(mode, layer, layer, plan, block, kernel);
    } else {
      run_chunks(mode, layer, plan, block, kernel);
    }
    if constexpr (kOnlyStored<C>) {
      if (layer.cx) narrow(layer.carried, states, layer.c_n);
    }
  }
}

// The weights are read where they are.
template <class E, class C>
void run_single_step(Mode mode, const LayerForward<E>& call, LayerForward<C> layer,
                     const Plan& plan, const ForwardPanels& panels, const Weights<E>& weights) {
  const int64_t rows = gates(mode) * layer.shape.H;
  const KernelTable<C>& kernels = current_kernels().table<C>();
  const Widened<E, C> weight_ih(weights.weight_ih, rows * layer.shape.I);
  const Widened<E, C> weight_hh(weights.weight_hh, rows * layer.shape.H);
  const Scratch<Wide<C>> bias(panels.biases());
  pack_biases(panels, weights, static_cast<Wide<C>*>(bias));
  layer.row_block = layer.shape.B;
  layer.weight_ih = weight_ih;
  layer.weight_hh = weight_hh;
  layer.bias = bias;
  run_parts(mode, call, layer, plan, kernels.width,
            kernels.single_step[static_cast<int64_t>(mode)]);
}

// Not by the threads of the layer: those that share units would have to meet before the first step.
template <class T>
void begin_masked(const LayerForward<T>& layer, int64_t states, T* masked) {
  if constexpr (!kOnlyStored<T>) {
    for (int64_t i = 0; i < states; ++i) {
      masked[i] = masked[states + i] = layer.hx[i] * layer.mask[i];
    }
  }
}

template <class E, class C>
void run_steps(Mode mode, const LayerForward<E>& call, LayerForward<C> layer, const Plan& plan,
               const ForwardPanels& panels, const Wide<C>* packed, Pace* pace) {
  const KernelTable<C>& kernels = current_kernels().table<C>();
  const int64_t panel = gates(mode) * panels.lanes();
  const int64_t places = (plan.projects_ahead ? 2 : 1) * plan.projected_steps;
  const Scratch<Wide<C>> projected(panels.blocks() * places * layer.shape.B * panel);
  const bool projects = layer.features < layer.shape.H;
  const Scratch<C> unprojected(projects ? layer.shape.B * layer.shape.H : 0);
  layer.weights = reinterpret_cast<const Packed<C>*>(packed + panels.biases());
  if (projects) layer.projection = layer.weights + panels.weights();
  layer.projection_panel = plan.hidden_panel;
  layer.unprojected = unprojected;
  layer.bias = packed;
  const int64_t states = layer.mask ? layer.shape.B * layer.features : 0;
  const Scratch<C> masked(2 * states);
  begin_masked(layer, states, static_cast<C*>(masked));
  layer.masked = masked;
  layer.row_block = plan.row_block;
  layer.vectors_per_gate = plan.vectors_per_gate;
  layer.rows_per_vector = plan.rows_per_vector;
  layer.bfloat16_weights = plan.bfloat16_weights;
  layer.projected_steps = plan.projected_steps;
  layer.projected_places = places;
  layer.projected = plan.projected_steps > 0 ? static_cast<Wide<C>*>(projected) : nullptr;
  layer.projected_rows = layer.shape.B;
  const auto kernel = kernels.forward[static_cast<int64_t>(mode)];
  if constexpr (std::is_same_v<E, C>) {
    if (pace) {
      const auto paced = [&](const LayerForward<C>& layer, Part whole) {
        pace->begin(layer.shape.T, std::max<int64_t>(layer.projected_steps, 1),
                    std::max<int64_t>(layer.projected_places, 1));
        whole.member = pace;
        whole.meet = [](void* self) { static_cast<Pace*>(self)->step(); };
        kernel(layer, whole);
      };
      return run_parts(mode, call, layer, plan, panels.units(), paced);
    }
  }
  run_parts(mode, call, layer, plan, panels.units(), kernel);
}

// Of hidden weights and biases, and of the projection behind them.
template <class E, class C>
void pack_recurrence(const ForwardPanels& panels, const ColumnPanels& projection,
                     const Weights<E>& weights, Wide<C>* packed) {
  pack_all<E, C>(panels, weights, packed);
  if constexpr (!kOnlyStored<E>) {
    if (!weights.weight_hr) return;
    pack_projection(projection, weights.weight_hr, packed + panels.biases() + panels.weights());
  }
}

// Tokens come as ids. Behind what else is packed, [table of the vocabulary] where that is kept.
template <class T>
void run_tokens(Mode mode, LayerForward<T> layer, const Weights<T>& weights, bool keep_packed,
                Pace* pace) {
  const int64_t I = layer.shape.I, V = weights.vocabulary;
  layer.shape.I = 0;
  const Plan plan = plan_layer(mode, layer.shape, layer.features, sizeof(T), current_machine(),
                               false, V, keep_packed);
  const ForwardPanels panels = panels_of(mode, layer, plan);
  const ColumnPanels projection = projection_panels(panels, plan, weights.weight_hr);
  const int64_t before = panels.biases() + panels.weights() + projection.elements<T>();
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
    pack_recurrence<T, T>(panels, projection, weights, packed);
    if (plan.whole_table) form_table(panels, weights, I, nullptr, V, packed + before);
  };
  if (!keep_packed) {
    const Scratch<T> packed(before);
    fill(packed);
    return run_steps(mode, layer, layer, plan, panels, static_cast<const T*>(packed), pace);
  }
  const int64_t elements = before + (plan.whole_table ? V * row : 0);
  const PackedKey key =
      packed_key(panels, weights, plan.whole_table ? I : 0, plan.whole_table ? V : 0);
  const auto kept = kept_packing(key, elements * sizeof(T), fill);
  const T* packed = static_cast<const T*>(kept.get());
  if (plan.whole_table) layer.table = packed + before;
  run_steps(mode, layer, layer, plan, panels, packed, pace);
}

// What kernels of C get of a call: all of it, or where they take copies of its arrays, its sizes.
template <class C, class E>
LayerForward<C> for_kernels(const LayerForward<E>& call) {
  if constexpr (std::is_same_v<E, C>) {
    return call;
  } else {
    LayerForward<C> layer = {};
    layer.shape = call.shape;
    layer.features = call.features;
    return layer;
  }
}

template <class C, class E>
void run_as(Mode mode, const LayerForward<E>& call, const Weights<E>& weights, bool keep_packed,
            bool bfloat16_weights, Pace* pace) {
  typedef Wide<C> T;
  // Of pairs all weights are bfloat16, without a way of their own.
  const bool bfloat16 = std::is_same_v<C, float> &&
                        (std::is_same_v<E, Bf16> || (std::is_same_v<E, C> && bfloat16_weights));
  const Plan plan = plan_layer(mode, call.shape, call.features, sizeof(C), current_machine(),
                               bfloat16, 0, false, call.mask != nullptr, pace != nullptr);
  const LayerForward<C> layer = for_kernels<C>(call);
  const ForwardPanels panels = panels_of(mode, layer, plan);
  if (plan.single_step) return run_single_step(mode, call, layer, plan, panels, weights);
  const ColumnPanels projection = projection_panels(panels, plan, weights.weight_hr);
  const int64_t elements = panels.biases() + panels.weights() + projection.template elements<C>();
  const auto fill = [&](void* memory) {
    pack_recurrence<E, C>(panels, projection, weights, static_cast<T*>(memory));
  };
  if (!keep_packed) {
    const Scratch<T> packed(elements);
    fill(packed);
    return run_steps(mode, call, layer, plan, panels, static_cast<const T*>(packed), pace);
  }
  const auto packed =
      kept_packing(packed_key(panels, weights, panels.shape.I), elements * sizeof(T), fill);
  run_steps(mode, call, layer, plan, panels, static_cast<const T*>(packed.get()), pace);
}

}  // namespace

template <class E>
void run_forward(Mode mode, const LayerForward<E>& layer, const Weights<E>& weights,
                 bool keep_packed, bool bfloat16_weights, Pace* pace) {
  if constexpr (!kOnlyStored<E>) {
    if (layer.tokens) return run_tokens(mode, layer, weights, keep_packed, pace);
  }
  with_kernel_type<E>([&](auto zero) {
    run_as<decltype(zero)>(mode, layer, weights, keep_packed, bfloat16_weights, pace);
  });
}

template void run_forward(Mode, const LayerForward<float>&, const Weights<float>&, bool, bool,
                          Pace*);
template void run_forward(Mode, const LayerForward<double>&, const Weights<double>&, bool, bool,
                          Pace*);
template void run_forward(Mode, const LayerForward<Bf16>&, const Weights<Bf16>&, bool, bool, Pace*);
template void run_forward(Mode, const LayerForward<Half16>&, const Weights<Half16>&, bool, bool,
                          Pace*);

}  // namespace fastrnn
