// Weights in the order the kernels read them: panels of whole vectors, zero-padded, so that the
// inner loops know no tails. Done once a call, never per step.
#pragma once

#include "../layer.h"

namespace fastrnn {

// How forward's weights are cut: `vectors` SIMD vectors of `width` lanes make a block; its units
// stand `copies` times side by side, once for each row that shares the vectors.
struct ForwardPanels {
  Mode mode;
  Shape shape;
  int64_t features;  // of h
  int64_t width, vectors, copies;
  int64_t elements;  // of a unit's weights in each lane: 1, or 2 where kernels multiply pairs
  bool bfloat16;     // the hidden weights, in pairs of vectors whose lanes alternate

  int64_t lanes() const { return width * vectors; }
  int64_t units() const { return lanes() / copies; }
  int64_t blocks() const { return (shape.H + units() - 1) / units(); }
  // Lanes, which two of bfloat16 share.
  int64_t hidden_weights() const { return rows(features) / (bfloat16 ? 2 : 1); }
  int64_t block_weights() const { return hidden_weights() + rows(shape.I); }
  int64_t weights() const { return blocks() * block_weights(); }
  int64_t biases() const { return blocks() * sums(mode) * lanes(); }

 private:
  // Lanes for sums of K products.
  int64_t rows(int64_t K) const { return (K + elements - 1) / elements * gates(mode) * lanes(); }
};

// weight_ih (G*H, I) and weight_hh (G*H, features) -> [block][features + I][sum][lane]; the first
// rows hold hidden sums [S - G, S), the I rows input sums [0, G); a row for each Packed<T>. Blocks
// [begin, end) of them. W is T, or Bf16 where the panels say so.
template <class T, class W>
void pack_forward(const ForwardPanels& panels, int64_t begin, int64_t end, const T* weight_ih,
                  const W* weight_hh, Packed<T>* packed);

// Columns `tokens` of weight_ih (G*H, I), `count` of them, or all I where null ->
// [block][token][sum] [lane], as the I rows above. Tokens [begin, end) of them.
template <class T>
void pack_table(const ForwardPanels& panels, const T* weight_ih, int64_t I, const int32_t* tokens,
                int64_t count, int64_t begin, int64_t end, T* packed);

// bias_ih and bias_hh (G*H), both or none null -> [block][sum][lane], added where both
// feed a sum.
template <class T>
void pack_bias(const ForwardPanels& panels, const T* bias_ih, const T* bias_hh, T* packed);

// A matrix (K, N) for the right-hand side of a product, cut into panels of `columns` columns; row k
// of a panel is row (k + first) % K of the matrix.
struct ColumnPanels {
  int64_t K, N, columns, first = 0;

  // Of Packed<T>.
  template <class T>
  int64_t elements() const {
    return (N + columns - 1) / columns * columns * packed_rows<T>(K);
  }
};

// -> [panel][packed_rows<T>(K)][column of the panel].
template <class T>
void pack_columns(const ColumnPanels& panels, const T* matrix, Packed<T>* packed);

}  // namespace fastrnn
