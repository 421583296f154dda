// How a layer is computed on a CPU: a pure function of its shape and of the machine.
#pragma once

#include "../layer.h"

namespace fastrnn {

struct Machine {
  int64_t vector_bytes;  // of the widest instruction set in use
  int64_t l2_bytes;      // of one core
};

struct Plan {
  int64_t rows_per_vector;   // 2 where two rows share a vector, else 1
  int64_t vectors_per_gate;  // width of a forward panel, in vectors per gate: 1, 2 or 4
  int64_t hidden_panel;      // width of the panels of H columns, in vectors: 1, 2 or 4
  int64_t input_panel;       // the same for I columns
  int64_t row_block;         // rows that run through all steps together
  int64_t backward_steps;    // steps whose gradients of the sums are held at once
  int64_t rows_per_thread;   // fewer rows of the batch than this are not worth a thread
};

// Items of `flop` operations each that are worth a thread; fewer are not.
int64_t items_per_thread(int64_t flop);

Plan plan_layer(Mode mode, const Shape& shape, int64_t element_bytes, const Machine& machine);

}  // namespace fastrnn
