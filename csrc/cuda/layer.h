// One layer, one direction, as the CUDA kernels see it: sizes and pointers to the memory of one
// device. All arrays are contiguous but grad_output; "for each row" means rows of all times, as a
// Timeline counts them, whose offsets are on the device, too. H is the number of hidden units,
// G and S the gates and sums of the cell (cells.h).
#pragma once

#include "../layer.h"

namespace fastrnn::cuda {

template <class E>
struct Forward {
  int64_t H;
  Timeline timeline;
  const E* projected;  // (G*H) for each row: weight_ih times the input, without bias
  const E* hx;         // (B, H)
  const E* weight_hh;  // (G*H, H)
  const E* bias_ih;    // (G*H), or null, and then so is bias_hh
  const E* bias_hh;
  E* output;   // (H) for each row
  E* h_n;      // (B, H), written for rows with a step
  Wide<E>* c;  // (B, H), LSTM: the first c in, the last out; else null
  E* reserve;  // (reserve_per_unit, H) for each row, or null

  // h of a row before a step that it has.
  FASTRNN_INLINE const E* previous(int64_t step, int64_t row) const {
    if (row >= timeline.rows_before(step)) return hx + row * H;
    return output + (timeline.first_row(timeline.time(step - 1)) + row) * H;
  }
};

template <class E>
struct Backward {
  int64_t H;
  Timeline timeline;
  Sequence<const E> grad_output;  // H features; data null: zero
  const E* hx;                    // (B, H)
  const E* cx;                    // (B, H), LSTM; else null
  const E* weight_hh_t;           // (H, G*H): weight_hh transposed
  const E* output;                // (H) for each row
  const E* reserve;               // as forward's
  Wide<E>* grad_h;                // (B, H): gradient of h_n in, of hx out
  Wide<E>* grad_c;                // (B, H), LSTM: of c_n in, of cx out; else null
  E* grad_sums;                   // (S, H) for each row, written
};

}  // namespace fastrnn::cuda
