// What a step of the recurrence does in forward and in backward, for one pair of row and unit.
//
// Both take the steps in an order of their own, `i` = 0, 1, ...; at each, the left operand of a row
// comes from the step before, and is multiplied with weights that stay the same. Whatever a pair
// reads of earlier steps beside its products, the thread that has the pair wrote itself.
#pragma once

#include "../cells.h"
#include "layer.h"
#include "number.cuh"

namespace fastrnn::cuda {

template <class Cell_, class E>
struct ForwardPass {
  using Cell = Cell_;
  using Element = E;
  using W = Wide<E>;
  using V = Number<W>;
  static constexpr int kProducts = Cell::kGates;  // of a pair
  static constexpr int kParts = 1;                // elements that a pair gives to the left operand
  static constexpr bool kStartsFromLeft = true;   // the first step has a left operand
  static constexpr int kSums = Cell::kSums, kGates = Cell::kGates;

  Forward<E> layer;

  struct Operands {
    W projected[kGates], state[2];
  };

  __device__ __forceinline__ int64_t units() const { return layer.H; }
  __device__ __forceinline__ int64_t depth() const { return layer.H; }
  __device__ __forceinline__ int64_t rows() const { return layer.timeline.B; }
  __device__ __forceinline__ const E* weights(int product, int64_t unit) const {
    return layer.weight_hh + (product * layer.H + unit) * layer.H;
  }
  // Whether any row from this one on has something to do.
  __device__ __forceinline__ bool has_work(int64_t i, int64_t row) const {
    return row < layer.timeline.rows(layer.timeline.time(i));
  }
  // h before step i.
  __device__ __forceinline__ const E* left(int64_t i, int64_t row) const {
    return layer.previous(i, row);
  }

  __device__ __forceinline__ Operands load(int64_t i, int64_t row, int64_t unit) const {
    Operands operands = {};
    const int64_t t = layer.timeline.time(i);
    if (row >= layer.timeline.rows(t)) return operands;
    const E* projected =
        layer.projected + (layer.timeline.first_row(t) + row) * kGates * layer.H + unit;
#pragma unroll
    for (int g = 0; g < kGates; ++g) operands.projected[g] = widened(projected[g * layer.H]);
    if constexpr (has_cell_state(mode())) {
      operands.state[1] = layer.c[row * layer.H + unit];
    } else if constexpr (kGates > 1) {
      operands.state[0] = widened(left(i, row)[unit]);
    }
    return operands;
  }

  // Whether the row has this step; then `next` is its h.
  __device__ __forceinline__ bool update(int64_t i, int64_t row, int64_t unit,
                                         const W (&products)[kProducts], const Operands& operands,
                                         E (&next)[kParts]) const {
    const Timeline& steps = layer.timeline;
    const int64_t t = steps.time(i), H = layer.H;
    if (row >= steps.rows(t)) return false;
    V sums[kSums];
    add_up(unit, products, operands, sums);
    V state[2] = {operands.state[0], operands.state[1]}, saved[Cell::kSaved + 1];
    Cell::forward(sums, state, saved);
    narrow(state[0].value, next[0]);
    const int64_t place = steps.first_row(t) + row;
    layer.output[place * H + unit] = next[0];
    if constexpr (has_cell_state(mode())) layer.c[row * H + unit] = state[1].value;
    if (layer.reserve) {
      E* reserve = layer.reserve + place * Cell::kSaved * H + unit;
#pragma unroll
      for (int k = 0; k < Cell::kSaved; ++k) narrow(saved[k].value, reserve[k * H]);
    }
    const bool is_last = i + 1 == steps.T || row >= steps.rows(steps.time(i + 1));
    if (is_last) layer.h_n[row * H + unit] = next[0];
    return true;
  }

 private:
  __device__ __forceinline__ static constexpr Mode mode() {
    return Cell::kStates == 2 ? Mode::kLstm : kGates == 3 ? Mode::kGru : Mode::kRnnTanh;
  }

  __device__ __forceinline__ void add_up(int64_t unit, const W (&products)[kProducts],
                                         const Operands& operands, V (&sums)[kSums]) const {
    const int64_t H = layer.H;
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      constexpr int kFirstHidden = kSums - kGates;
      W sum = 0;
      if (s >= kFirstHidden) sum += products[s - kFirstHidden];
      if (s < kGates) sum += operands.projected[input_gate(mode(), s)];
      if (layer.bias_ih) {
        if (s < kGates) sum += widened(layer.bias_ih[input_gate(mode(), s) * H + unit]);
        if (s >= kFirstHidden) sum += widened(layer.bias_hh[(s - kFirstHidden) * H + unit]);
      }
      sums[s] = sum;
    }
  }
};

// From the last step to the first, and once more for the gradient of hx.
template <class Cell_, class E>
struct BackwardPass {
  using Cell = Cell_;
  using Element = E;
  using W = Wide<E>;
  using V = Number<W>;
  static constexpr int kProducts = 1;
  static constexpr int kParts = Cell::kGates;
  static constexpr bool kStartsFromLeft = false;
  static constexpr int kSums = Cell::kSums, kSaved = Cell::kSaved;

  Backward<E> layer;

  struct Operands {
    W saved[kSaved + 1], prev_state[2], h, grad_state[2];
  };

  __device__ __forceinline__ int64_t units() const { return layer.H; }
  __device__ __forceinline__ int64_t depth() const { return kParts * layer.H; }
  __device__ __forceinline__ int64_t rows() const { return layer.timeline.B; }
  __device__ __forceinline__ const E* weights(int, int64_t unit) const {
    return layer.weight_hh_t + unit * kParts * layer.H;
  }
  __device__ __forceinline__ bool has_work(int64_t i, int64_t row) const {
    return row < rows_at(i) || row < rows_at(i - 1);
  }
  // Gradients of the hidden sums of the later step; null where the row has none.
  __device__ __forceinline__ const E* left(int64_t i, int64_t row) const {
    if (row >= rows_at(i - 1)) return nullptr;
    const int64_t place = layer.timeline.first_row(time(i - 1)) + row;
    return layer.grad_sums + (place * kSums + kSums - kParts) * layer.H;
  }

  __device__ __forceinline__ Operands load(int64_t i, int64_t row, int64_t unit) const {
    Operands operands = {};
    if (row >= layer.timeline.B) return operands;
    const int64_t H = layer.H, state = row * H + unit;
    operands.grad_state[0] = layer.grad_h[state];
    if constexpr (Cell::kStates == 2) operands.grad_state[1] = layer.grad_c[state];
    if (row >= rows_at(i)) return operands;
    const Timeline& steps = layer.timeline;
    const int64_t t = time(i), place = steps.first_row(t) + row;
    if (layer.grad_output.data) {
      operands.grad_state[0] += widened(layer.grad_output.at(t, row)[unit]);
    }
#pragma unroll
    for (int k = 0; k < kSaved; ++k) {
      operands.saved[k] = widened(layer.reserve[(place * kSaved + k) * H + unit]);
    }
    if constexpr (kSaved == 0) operands.h = widened(layer.output[place * H + unit]);
    const int64_t step = steps.T - 1 - i;
    const bool begins = row >= steps.rows_before(step);
    const int64_t before = begins ? 0 : steps.first_row(time(i + 1)) + row;
    if constexpr (Cell::kStates == 2) {
      operands.prev_state[1] = widened(
          begins ? layer.cx[state] : layer.reserve[(before * kSaved + kSaved - 1) * H + unit]);
    } else if constexpr (kSaved > 0) {
      operands.prev_state[0] = widened(begins ? layer.hx[state] : layer.output[before * H + unit]);
    }
    return operands;
  }

  __device__ __forceinline__ bool update(int64_t i, int64_t row, int64_t unit,
                                         const W (&products)[kProducts], const Operands& operands,
                                         E (&next)[kParts]) const {
    if (row >= layer.timeline.B) return false;
    const int64_t H = layer.H;
    V grad_state[2] = {operands.grad_state[0] + products[0], operands.grad_state[1]};
    const bool has_step = row < rows_at(i);
    if (has_step) {
      V saved[kSaved + 1], prev_state[2] = {operands.prev_state[0], operands.prev_state[1]};
#pragma unroll
      for (int k = 0; k < kSaved; ++k) saved[k] = operands.saved[k];
      V sums[kSums];
      Cell::backward(saved, prev_state, V(operands.h), grad_state, sums);
      const int64_t place = layer.timeline.first_row(time(i)) + row;
      E* grad_sums = layer.grad_sums + place * kSums * H + unit;
      E gradients[kSums];
#pragma unroll
      for (int s = 0; s < kSums; ++s) {
        narrow(sums[s].value, gradients[s]);
        grad_sums[s * H] = gradients[s];
      }
#pragma unroll
      for (int part = 0; part < kParts; ++part) next[part] = gradients[kSums - kParts + part];
      if constexpr (Cell::kStates == 2) layer.grad_c[row * H + unit] = grad_state[1].value;
    }
    layer.grad_h[row * H + unit] = grad_state[0].value;
    return has_step;
  }

 private:
  __device__ __forceinline__ int64_t time(int64_t i) const {
    return layer.timeline.time(layer.timeline.T - 1 - i);
  }
  __device__ __forceinline__ int64_t rows_at(int64_t i) const {
    return i >= 0 && i < layer.timeline.T ? layer.timeline.rows(time(i)) : 0;
  }
};

}  // namespace fastrnn::cuda
