// The recurrence forward, step by step. What both directions need: rows of two kinds, and in
// blocks.
#pragma once

#include "forward_tile.inl"

namespace fastrnn {
namespace {

// Calls body(previous, begin, end) for the rows of a part that a step has: for those that went
// through the step before, and for those that begin here.
template <class Body>
FASTRNN_INLINE void for_row_kinds(const Timeline& timeline, int64_t step, const Part& part,
                                  const Body& body) {
  const int64_t end = part.rows_end(timeline, timeline.time(step));
  const int64_t before = timeline.rows_before(step), both = before < end ? before : end;
  const int64_t cuts[] = {part.row, both > part.row ? both : part.row, end};
  for (int kind = 0; kind < 2; ++kind) {  // a loop, so that the body is compiled once
    if (cuts[kind] >= cuts[kind + 1]) continue;
    body(kind ? -1 : timeline.first_row(timeline.time(step - 1)), cuts[kind], cuts[kind + 1]);
  }
}

// One step of one block, for rows [begin, end); a last row without partner takes half a vector.
template <class Cell, class T, int U, int R, class W>
void forward_block(const LayerForward<T>& layer, const Moment& now, int64_t block, int64_t begin,
                   int64_t end) {
  // Weights come in bfloat16 for single rows only.
  constexpr int kRows = sizeof(W) < sizeof(Wide<T>) ? 1 : tile_rows(Cell::kGates * U);
  begin = for_row_tiles<kRows, R>(begin, end, ForwardTile<Cell, T, U, R, W>{layer, now, block});
  if constexpr (R > 1) {
    for_row_tiles<1>(begin, end, ForwardTile<Cell, T, U, 1>{layer, now, block});
  }
}

// to (count, kVectors) = rows of the input times the input's part of a block's panel.
template <int kVectors, class T>
void project_rows(const T* input, int64_t stride, int64_t count, const Packed<T>* panel, int64_t I,
                  Wide<T>* to) {
  constexpr int N = kVectors < 4 ? kVectors : 4;
  constexpr int64_t kWidth = Vec<Wide<T>>::kWidth, kPanel = kVectors * kWidth;
  const Product<T> product{input,  stride, 0,      panel, true,   N,    to,
                           kPanel, I,      kPanel, 0,     kPanel, false};
  for (int64_t column = 0; column < kPanel; column += N * kWidth) {
    const ProductTile<T, N> tile{product, panel + column, 0, I, column, false};
    for_row_tiles<tile_rows(N)>(0, count, tile);
  }
}

// The input products of steps [begin, end) for all rows of a part. The steps of a single row are
// the rows of one product; of more rows each step has a product.
template <class Cell, class T, int U, class W>
void project_block(const LayerForward<T>& layer, int64_t begin, int64_t end, int64_t block,
                   const Part& part) {
  constexpr int kVectors = Cell::kGates * U;
  const ForwardTile<Cell, T, U, 1, W> tile{layer, {}, block};
  const Sequence<const T>& input = layer.input;
  const Timeline& timeline = layer.timeline;
  const auto project = [&](int64_t step, int64_t row, int64_t stride, int64_t count) {
    project_rows<kVectors>(input.at(timeline.time(step), row), stride, count, tile.input_weights(),
                           layer.shape.I, tile.projected(step % layer.projected_places, row));
  };
  if (layer.projected_rows == 1) {
    return project(begin, 0, step_stride(input, timeline), end - begin);
  }
  for (int64_t step = begin; step < end; ++step) {
    const int64_t row_end = part.rows_end(timeline, timeline.time(step));
    if (part.row < row_end) project(step, part.row, input.row_stride, row_end - part.row);
  }
}

// Half types come with projections as float32.
template <class Cell, class T>
constexpr bool kProjects = Cell::kStates > 1 && !kOnlyStored<T>;

// The output of one time from what its cells gave.
template <class T>
void project_step(const LayerForward<T>& layer, int64_t t, const Part& part) {
  const int64_t H = layer.shape.H, P = layer.features;
  T* output = layer.output + layer.timeline.first_row(t) * layer.output_stride;
  product(Product<T>{layer.unprojected, H, 0, layer.projection, false, layer.projection_panel,
                     output, layer.output_stride, H, P, 0, P, false},
          part.row, part.rows_end(layer.timeline, t));
}

// Steps [begin, end), beside them the input products of those from `ahead` on, or -1.
template <class Cell, class T, int U, int R, class W>
void forward_steps(const LayerForward<T>& layer, int64_t begin, int64_t end, int64_t ahead,
                   const Part& part) {
  constexpr int64_t kUnits = ForwardTile<Cell, T, U, R>::kUnits;
  for (int64_t step = begin; step < end; ++step) {
    const int64_t t = layer.timeline.time(step), first = layer.timeline.first_row(t);
    for_row_kinds(layer.timeline, step, part, [&](int64_t previous, int64_t row, int64_t row_end) {
      const int64_t place = layer.projected ? step % layer.projected_places : 0;
      const Moment now{t, first, previous, place, ahead};
      for (int64_t unit = part.unit; unit < part.unit_end; unit += kUnits) {
        forward_block<Cell, T, U, R, W>(layer, now, unit / kUnits, row, row_end);
      }
    });
    if constexpr (kProjects<Cell, T>) {
      if (layer.projection) project_step(layer, t, part);
    }
    if (part.meet) part.meet(part.member);
  }
}

// h_n is the output of a row's last step; hx where it has none.
template <class T>
void give_states(const LayerForward<T>& layer, const Part& part) {
  const int64_t P = layer.features, unit_end = part.unit_end < P ? part.unit_end : P;
  const int64_t bytes = (unit_end - part.unit) * sizeof(T);
  const Timeline& timeline = layer.timeline;
  int64_t t = timeline.T > 0 ? timeline.time(timeline.T - 1) : -1;
  for (int64_t row = part.row; row < part.row_end; ++row) {
    while (t >= 0 && timeline.rows(t) <= row) --t;
    const T* h = t < 0 ? layer.hx + row * P
                       : layer.output + (timeline.first_row(t) + row) * layer.output_stride;
    __builtin_memcpy(layer.h_n + row * P + part.unit, h + part.unit, bytes);
  }
}

template <class Cell, class T, int U, int R, class W = Packed<T>>
void forward_rows(const LayerForward<T>& layer, const Part& part) {
  constexpr int64_t kUnits = ForwardTile<Cell, T, U, R>::kUnits;
  const int64_t steps = layer.shape.T, chunk = layer.projected ? layer.projected_steps : steps;
  int64_t ahead = -1;
  for (int64_t begin = 0, end; begin < steps; begin = end) {
    end = steps - begin > chunk ? begin + chunk : steps;
    if constexpr (R == 1) {
      const bool here = layer.projected && ahead < 0;
      for (int64_t unit = part.unit; here && unit < part.unit_end; unit += kUnits) {
        project_block<Cell, T, U, W>(layer, begin, end, unit / kUnits, part);
      }
      // Where fewer steps are left, those before come again, to the same bits.
      const int64_t last = steps - chunk;
      ahead = layer.projected_places <= chunk || end == steps ? -1 : end < last ? end : last;
    }
    forward_steps<Cell, T, U, R, W>(layer, begin, end, ahead, part);
  }
  give_states(layer, part);
}

// Rows in blocks: each block runs through all steps while the weights stay in cache.
template <class Layer, class Rows>
FASTRNN_INLINE void for_row_blocks(const Layer& layer, const Part& part, Rows rows) {
  Part block = part;
  for (; block.row < part.row_end; block.row = block.row_end) {
    block.row_end =
        part.row_end - block.row < layer.row_block ? part.row_end : block.row + layer.row_block;
    rows(layer, block);
  }
}

// The widths of panels that plan.cpp chooses from, in vectors per gate: wide enough for the
// multiplying units when a single row comes, for a cell with one gate also when many do.
template <class Cell, class T>
void forward(const LayerForward<T>& layer, const Part& part) {
  constexpr int G = Cell::kGates;
  if constexpr (sizeof(T) == sizeof(float)) {  // of pairs all weights are bfloat16
    if (layer.bfloat16_weights) {
      return for_row_blocks(layer, part, forward_rows<Cell, T, widest_panel(G), 1, Bf16>);
    }
  }
  if constexpr (kRowPairs) {
    if (layer.rows_per_vector == 2) return for_row_blocks(layer, part, forward_rows<Cell, T, 1, 2>);
  }
  switch (layer.vectors_per_gate) {
    case 1:
      return for_row_blocks(layer, part, forward_rows<Cell, T, 1, 1>);
    case 2:
      if constexpr (G != 3) return for_row_blocks(layer, part, forward_rows<Cell, T, 2, 1>);
      return;
    case 4:
      if constexpr (G != 4) return for_row_blocks(layer, part, forward_rows<Cell, T, 4, 1>);
      return;
    default:
      if constexpr (G == 1) return for_row_blocks(layer, part, forward_rows<Cell, T, 8, 1>);
  }
}

}  // namespace
}  // namespace fastrnn
