// How a layer is computed on a CPU: a pure function of its shape and of the machine.
#pragma once

#include <vector>

#include "../layer.h"

namespace fastrnn {

struct Machine {
  int64_t vector_bytes;  // of the widest instruction set in use
  int64_t l2_bytes;      // of one core
  int64_t threads;       // that torch gives us
};

struct Plan {
  bool single_step;         // T = 1: the weights are read where they are, not packed
  int64_t unit_parts;       // threads that share the hidden units of all rows, step by step; or 1
  int64_t projected_steps;  // steps whose input product is taken before their recurrence, or 0
  bool projects_ahead;      // beside the recurrence of as many steps before them, but for the first
  bool in_place;            // backward reads the weights where they are; never of pairs
  int64_t rows_per_vector;  // 2 where two rows share a vector, else 1
  int64_t vectors_per_gate;  // width of a forward panel, in vectors per gate: 1, 2, 4 or 8
  bool bfloat16_weights;     // the hidden ones are packed so
  int64_t hidden_panel;      // width of panels of a column for each feature of h, in vectors
  int64_t unit_panel;        // the same for H columns
  int64_t input_panel;       // the same for I columns
  int64_t row_block;         // rows that run through all steps together
  int64_t backward_steps;    // steps whose gradients of the sums are held at once
  int64_t rows_per_thread;   // fewer rows of the batch than this are not worth a thread
  bool whole_table;  // of tokens: all of the vocabulary, which is kept; else those there are
};

// One copied element takes as long as so many operations.
constexpr int64_t kFlopPerCopy = 30;

// Items of `flop` operations each that are worth a thread; fewer are not.
int64_t items_per_thread(int64_t flop);

// Whether the two directions of a layer are worth a thread each; else they run one after the other,
// each on all threads.
bool side_by_side(Mode mode, const Shape& shape, const Machine& machine);

// Threads that run layers of a stack at the same time, each some steps behind the one below; 1: one
// layer after the other. shape: of a layer but the first.
int64_t layers_at_once(Mode mode, const Shape& shape, int64_t layers, int64_t element_bytes,
                       const Machine& machine);

// Where to cut the batch into `parts` of about equal work: [parts + 1], from row 0 to row B.
std::vector<int64_t> equal_parts(const Timeline& timeline, int64_t parts);

// element_bytes: of what kernels multiply, 2 where those are pairs of bfloat16.
// bfloat16_weights: hidden weights may be rounded to that type, or are of it.
// features: of h, H or fewer where it is projected.
// vocabulary: of tokens as input, whose I is 0 then; or 0. keeps: whether a table may be kept.
// masks: a mask multiplies h before its product. beside_others: it runs at the same time as other
// layers.
Plan plan_layer(Mode mode, const Shape& shape, int64_t features, int64_t element_bytes,
                const Machine& machine, bool bfloat16_weights = false, int64_t vocabulary = 0,
                bool keeps = false, bool masks = false, bool beside_others = false);

}  // namespace fastrnn
