#include "pack.h"

#include <algorithm>

namespace fastrnn {
namespace {

// to[k * stride + lane] = from[unit * K + k] for the lanes' units, zero for units from `count` on.
// Blocks of k keep both sides in cache.
template <class T>
void transpose_units(const ForwardPanels& p, const T* from, int64_t count, int64_t K, T* to,
                     int64_t stride) {
  constexpr int64_t kBlock = 16;
  for (int64_t k = 0; k < K; k += kBlock) {
    const int64_t k_end = std::min(K, k + kBlock);
    for (int64_t lane = 0; lane < p.lanes(); ++lane) {
      const int64_t unit = lane % p.units();
      for (int64_t i = k; i < k_end; ++i)
        to[i * stride + lane] = unit < count ? from[unit * K + i] : T(0);
    }
  }
}

}  // namespace

template <class T>
void pack_forward(const ForwardPanels& p, int64_t begin, int64_t end, const T* weight_ih,
                  const T* weight_hh, T* packed) {
  const int64_t G = gates(p.mode), I = p.shape.I, H = p.shape.H, row = G * p.lanes();
  packed += begin * (I + H) * row;
  for (int64_t block = begin; block < end; ++block, packed += (I + H) * row) {
    const int64_t unit = block * p.units();
    const int64_t count = std::min(H - unit, p.units());
    for (int64_t g = 0; g < G; ++g) {
      const int64_t input_row = input_gate(p.mode, g) * H + unit, hidden_row = g * H + unit;
      T* to = packed + g * p.lanes();
      transpose_units(p, weight_hh + hidden_row * H, count, H, to, row);
      transpose_units(p, weight_ih + input_row * I, count, I, to + H * row, row);
    }
  }
}

template <class T>
void pack_bias(const ForwardPanels& p, const T* bias_ih, const T* bias_hh, T* packed) {
  const int64_t G = gates(p.mode), S = sums(p.mode), H = p.shape.H;
  std::fill(packed, packed + p.biases(), T(0));
  if (bias_ih == nullptr) return;
  for (int64_t block = 0; block < p.blocks(); ++block, packed += S * p.lanes()) {
    for (int64_t lane = 0; lane < p.lanes(); ++lane) {
      const int64_t unit = block * p.units() + lane % p.units();
      for (int64_t g = 0; g < G && unit < H; ++g) {
        packed[g * p.lanes() + lane] += bias_ih[input_gate(p.mode, g) * H + unit];
        packed[(S - G + g) * p.lanes() + lane] += bias_hh[g * H + unit];
      }
    }
  }
}

template <class T>
void pack_columns(const ColumnPanels& p, const T* matrix, T* packed) {
  for (int64_t column = 0; column < p.N; column += p.columns) {
    const int64_t n = std::min(p.N - column, p.columns);
    for (int64_t k = 0; k < p.K; ++k, packed += p.columns) {
      const T* row = matrix + k * p.N + column;
      std::fill(std::copy(row, row + n, packed), packed + p.columns, T(0));
    }
  }
}

template void pack_forward(const ForwardPanels&, int64_t, int64_t, const float*, const float*,
                           float*);
template void pack_forward(const ForwardPanels&, int64_t, int64_t, const double*, const double*,
                           double*);
template void pack_bias(const ForwardPanels&, const float*, const float*, float*);
template void pack_bias(const ForwardPanels&, const double*, const double*, double*);
template void pack_columns(const ColumnPanels&, const float*, float*);
template void pack_columns(const ColumnPanels&, const double*, double*);

}  // namespace fastrnn
