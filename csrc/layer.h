// One layer, one direction, as the kernels see it: sizes, strides and pointers; no torch.
//
// T steps, B batch, I input, H hidden; G gates and S sums of the cell (cells.h). All pointers are
// to elements of the layer's dtype, or of the one it is summed in (Wide); none of the written
// arrays may overlap another array. Null pointers are allowed only where said.
#pragma once

#include <cstdint>

#include "half.h"

#if defined(__CUDACC__)
#define FASTRNN_INLINE __host__ __device__ __forceinline__
#else
#define FASTRNN_INLINE inline __attribute__((always_inline))
#endif

namespace fastrnn {

// The order is that of fastrnn.reference.MODES: the Python side passes the index.
enum class Mode : int64_t { kRnnTanh, kRnnRelu, kLstm, kGru };
constexpr int64_t kModes = 4;

constexpr int64_t gates(Mode mode) { return mode == Mode::kLstm ? 4 : mode == Mode::kGru ? 3 : 1; }
constexpr int64_t sums(Mode mode) { return mode == Mode::kLstm || mode == Mode::kGru ? 4 : 1; }
// torch's gate to which an input sum belongs; hidden sum sums - gates + g always belongs to gate g.
constexpr int64_t input_gate(Mode mode, int64_t sum) {
  return (sum + 2 * gates(mode) - sums(mode)) % gates(mode);
}
// Vectors per gate of the widest panel of forward's weights.
constexpr int64_t widest_panel(int64_t gates) { return gates == 4 ? 2 : gates == 3 ? 4 : 8; }
// Vectors of all gates that make a panel wide: a single row's sums of it fill the multiplying
// units.
constexpr int64_t kWidePanel = 8;
constexpr bool has_cell_state(Mode mode) { return mode == Mode::kLstm; }

// Elements kept for backward per step, row and hidden unit, beside the output:
// LSTM i, f, g, o, c; GRU r, z, n and n's hidden product; Elman nothing (the output says it all).
constexpr int reserve_per_unit(Mode mode) {
  return mode == Mode::kLstm ? 5 : mode == Mode::kGru ? 4 : 0;
}

struct Shape {
  int64_t T, B, I, H;
};

// An array of features, which are contiguous, for each time and row: (T, B, features), or for rows
// of different lengths (offsets[T] - offsets[0], features), time after time, as a Timeline counts.
template <class T>
struct Sequence {
  T* data;
  int64_t step_stride, row_stride;
  const int64_t* offsets;

  FASTRNN_INLINE T* at(int64_t t, int64_t b) const {
    const int64_t step = offsets ? (offsets[t] - offsets[0]) * row_stride : t * step_stride;
    return data + step + b * row_stride;
  }
  // The same from time t on.
  FASTRNN_INLINE Sequence from(int64_t t) const {
    return {at(t, 0), step_stride, row_stride, offsets ? offsets + t : nullptr};
  }
};

// The order in which a direction visits time, and the rows that there are at each time: all B of
// them, or where their lengths differ those that have not ended. Rows come longest first, so these
// are rows [0, rows(t)); T is the length of the longest.
struct Timeline {
  int64_t T, B;
  bool reverse;
  const int64_t* offsets;  // [T + 1], of each time's row 0 among all rows of all times; null: even

  FASTRNN_INLINE int64_t time(int64_t step) const { return reverse ? T - 1 - step : step; }
  // The first time, in memory, of steps [begin, end).
  FASTRNN_INLINE int64_t first_time(int64_t begin, int64_t end) const {
    return reverse ? T - end : begin;
  }
  FASTRNN_INLINE int64_t rows(int64_t t) const { return offsets ? offsets[t + 1] - offsets[t] : B; }
  // Where row 0 of a time is among all rows of all times.
  FASTRNN_INLINE int64_t first_row(int64_t t) const {
    return offsets ? offsets[t] - offsets[0] : t * B;
  }
  // Rows that have been through the step before: at the first step none, later all of them, but
  // for those that begin at this step in reverse.
  FASTRNN_INLINE int64_t rows_before(int64_t step) const {
    return step > 0 ? rows(time(step - 1)) : 0;
  }
  // Times [begin, end) of it.
  FASTRNN_INLINE Timeline times(int64_t begin, int64_t end) const {
    return {end - begin, B, reverse, offsets ? offsets + begin : nullptr};
  }
};

// What one thread computes of a layer: rows [row, row_end) of the batch, units [unit, unit_end).
struct Part {
  int64_t row, row_end, unit, unit_end;
  // To be called after each step: where threads share rows or run layers of a stack at the same
  // time, it waits for others. Null where there are none.
  void (*meet)(void* member) = nullptr;
  void* member = nullptr;

  // The end of its rows that there are at a time.
  FASTRNN_INLINE int64_t rows_end(const Timeline& timeline, int64_t t) const {
    const int64_t rows = timeline.rows(t);
    return row_end < rows ? row_end : rows;
  }
};

// Arrays of features "for each row" have no gaps between times: first_row(t) + row of a Timeline.
template <class T>
struct LayerForward {
  Shape shape;
  int64_t features;  // of h and the output: H, or fewer with a projection
  Timeline timeline;
  int64_t row_block;         // rows that run through all steps together
  int64_t vectors_per_gate;  // width of a weight panel, in vectors per gate (pack.h)
  int64_t rows_per_vector;   // 2: few hidden units, two rows share a vector; else 1
  // The input product is taken for so many steps at once, before their recurrence; 0: step by step,
  // with the hidden product.
  int64_t projected_steps;
  // As many, or twice as many: then the input product of a single row's next steps is taken beside
  // the hidden products of these, a vector of each panel in each step.
  int64_t projected_places;
  Wide<T>* projected;      // [block][projected_places][projected_rows][vectors of a panel], or null
  int64_t projected_rows;  // B, of all parts
  Sequence<const T> input;  // I
  // Where the input is tokens: the place in the table of each row's, whose rows are the input
  // products of tokens; there is no other input then, and I is 0. Else null.
  const int32_t* tokens;
  const Wide<T>* table;  // [block][table_rows][vectors of a panel]
  int64_t table_rows;
  const T* hx;  // (B, features)
  const T* cx;  // (B, H), LSTM; else null
  // (B, H), what a step needs of the one before beside h: c of the LSTM, and of a type that is only
  // stored GRU's h as it was before it was rounded; else null. Holds cx or hx before the first
  // step.
  Wide<T>* carried;
  // With a projection, (H, features) in panels of projection_panel vectors; else null.
  const Packed<T>* projection;
  int64_t projection_panel;
  T* unprojected;  // (B, H), of the current step
  // Packed; or, for a single step, null, with the matrices (G*H, I) and (G*H, H) themselves; then
  // there is no projection.
  const Packed<T>* weights;
  bool bfloat16_weights;  // those of the hidden product are packed so; one row, widest panels
  const T *weight_ih, *weight_hh;
  const Wide<T>* bias;  // packed sums of the biases
  // Multiplies the previous h of each row before the hidden product; (B, features), or null. With
  // it there is no projection.
  const Wide<T>* mask;
  // (2, B, features): h times mask, of even times and of odd ones, which other units of a step read
  // while its own are written. Before the first step both are hx times mask.
  T* masked;
  T* output;  // features for each row, rows output_stride apart; run_forward takes null, too
  int64_t output_stride;
  T* h_n;      // (B, features)
  T* c_n;      // (B, H), LSTM; else null
  T* reserve;  // (reserve_per_unit, H) for each row, or null when backward will not be asked for
};

// Steps [begin, end) of a layer, run from the last to the first.
template <class T>
struct LayerBackward {
  Shape shape;
  int64_t features;  // of h, as forward's
  Timeline timeline;
  int64_t begin, end;
  int64_t row_block;
  int64_t rows_per_vector;        // as forward's
  int64_t panel_vectors;          // width of a weight panel, in vectors
  Sequence<const T> grad_output;  // features; data null: zero
  const T* hx;                    // (B, features)
  const T* cx;                    // (B, H), LSTM; else null
  const Packed<T>* weights;       // weight_hh in panels of columns, or as it is
  bool in_place;                  // as it is
  bool wants_grad_hx;             // else grad_h is not of use after step 0
  // With a projection, (features, H) in panels of projection_panel vectors; else null.
  const Packed<T>* projection;
  int64_t projection_panel;
  Wide<T>* grad_unprojected;  // (B, H), of the current step
  T* unprojected;             // H for each row of the steps, written
  const Wide<T>* mask;        // as forward's
  T* grad_projected;          // features for each row of the steps, written
  const T* output;            // features for each row
  const T* reserve;           // (reserve_per_unit, H) for each row
  Wide<T>* grad_h;            // (B, features): of the state after the steps in, before them out
  Wide<T>* grad_c;            // (B, H), LSTM; else null
  T* grad_sums;               // (S, H) for each row of the steps in order of time, written
};

}  // namespace fastrnn
