#include "pack.h"

#include <algorithm>

namespace fastrnn {
namespace {

// to[k * stride + l] = from[l * K + k] for `lanes` rows l, zero for lanes up to `width`. Blocks of
// k keep both sides in cache.
template <class T>
void transpose_rows(const T* from, int64_t lanes, int64_t K, int64_t width, T* to, int64_t stride) {
  constexpr int64_t kBlock = 16;
  for (int64_t k = 0; k < K; k += kBlock) {
    const int64_t k_end = std::min(K, k + kBlock);
    for (int64_t l = 0; l < width; ++l) {
      for (int64_t i = k; i < k_end; ++i) to[i * stride + l] = l < lanes ? from[l * K + i] : T(0);
    }
  }
}

}  // namespace

template <class T>
void pack_forward(const ForwardPanels& p, const T* weight_ih, const T* weight_hh, T* packed) {
  const int64_t G = gates(p.mode), I = p.shape.I, H = p.shape.H, units = p.units();
  for (int64_t unit = 0; unit < H; unit += units, packed += (I + H) * G * units) {
    const int64_t lanes = std::min(H - unit, units);
    for (int64_t g = 0; g < G; ++g) {
      const int64_t input_row = input_gate(p.mode, g) * H + unit, hidden_row = g * H + unit;
      T* to = packed + g * units;
      transpose_rows(weight_hh + hidden_row * H, lanes, H, units, to, G * units);
      transpose_rows(weight_ih + input_row * I, lanes, I, units, to + H * G * units, G * units);
    }
  }
}

template <class T>
void pack_bias(const ForwardPanels& p, const T* bias_ih, const T* bias_hh, T* packed) {
  const int64_t G = gates(p.mode), S = sums(p.mode), H = p.shape.H, units = p.units();
  std::fill(packed, packed + p.biases(), T(0));
  if (bias_ih == nullptr) return;
  for (int64_t unit = 0; unit < H; unit += units, packed += S * units) {
    const int64_t lanes = std::min(H - unit, units);
    for (int64_t g = 0; g < G; ++g) {
      const T* input = bias_ih + input_gate(p.mode, g) * H + unit;
      const T* hidden = bias_hh + g * H + unit;
      for (int64_t l = 0; l < lanes; ++l) packed[g * units + l] += input[l];
      for (int64_t l = 0; l < lanes; ++l) packed[(S - G + g) * units + l] += hidden[l];
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

template void pack_forward(const ForwardPanels&, const float*, const float*, float*);
template void pack_forward(const ForwardPanels&, const double*, const double*, double*);
template void pack_bias(const ForwardPanels&, const float*, const float*, float*);
template void pack_bias(const ForwardPanels&, const double*, const double*, double*);
template void pack_columns(const ColumnPanels&, const float*, float*);
template void pack_columns(const ColumnPanels&, const double*, double*);

}  // namespace fastrnn
