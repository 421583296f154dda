#include "pack.h"

#include <algorithm>
#include <type_traits>

namespace fastrnn {
namespace {

// Where a row of a gate's panel holds a lane.
template <class W>
int64_t place_of(const ForwardPanels& p, int64_t lane) {
  if constexpr (!std::is_same_v<W, Bf16>) return lane;
  const int64_t vector = lane / p.width;
  return vector / 2 * 2 * p.width + lane % p.width * 2 + vector % 2;
}

// to[k * stride + lane] = from[unit * K + column(k)] for the lanes' units and k in [begin, end),
// zero for units from `count` on. Blocks of k keep both sides in cache.
template <class W, class Column>
void transpose_units(const ForwardPanels& p, const W* from, int64_t count, int64_t K, int64_t begin,
                     int64_t end, const Column& column_of, W* to, int64_t stride) {
  constexpr int64_t kBlock = 16;
  for (int64_t k = begin; k < end; k += kBlock) {
    const int64_t k_end = std::min(end, k + kBlock);
    for (int64_t lane = 0; lane < p.lanes(); ++lane) {
      const int64_t unit = lane % p.units();
      W* column = to + place_of<W>(p, lane);
      for (int64_t i = k; i < k_end; ++i)
        column[i * stride] = unit < count ? from[unit * K + column_of(i)] : W{};
    }
  }
}

}  // namespace

template <class T, class W>
void pack_forward(const ForwardPanels& p, int64_t begin, int64_t end, const T* weight_ih,
                  const W* weight_hh, T* packed) {
  const int64_t G = gates(p.mode), I = p.shape.I, H = p.shape.H, row = G * p.lanes();
  packed += begin * p.block_weights();
  for (int64_t block = begin; block < end; ++block, packed += p.block_weights()) {
    const int64_t unit = block * p.units();
    const int64_t count = std::min(H - unit, p.units());
    for (int64_t g = 0; g < G; ++g) {
      const int64_t input_row = input_gate(p.mode, g) * H + unit, hidden_row = g * H + unit;
      W* hidden = reinterpret_cast<W*>(packed) + g * p.lanes();
      T* input = packed + p.hidden_weights() + g * p.lanes();
      const auto same = [](int64_t k) { return k; };
      const int64_t F = p.features;
      transpose_units(p, weight_hh + hidden_row * F, count, F, 0, F, same, hidden, row);
      transpose_units(p, weight_ih + input_row * I, count, I, 0, I, same, input, row);
    }
  }
}

template <class T>
void pack_table(const ForwardPanels& p, const T* weight_ih, int64_t I, const int32_t* tokens,
                int64_t count, int64_t begin, int64_t end, T* packed) {
  const int64_t G = gates(p.mode), H = p.shape.H, row = G * p.lanes();
  for (int64_t block = 0; block < p.blocks(); ++block, packed += count * row) {
    const int64_t unit = block * p.units(), units = std::min(H - unit, p.units());
    for (int64_t g = 0; g < G; ++g) {
      const T* from = weight_ih + (input_gate(p.mode, g) * H + unit) * I;
      T* to = packed + g * p.lanes();
      if (tokens) {
        const auto chosen = [tokens](int64_t k) { return tokens[k]; };
        transpose_units(p, from, units, I, begin, end, chosen, to, row);
      } else {
        const auto same = [](int64_t k) { return k; };
        transpose_units(p, from, units, I, begin, end, same, to, row);
      }
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
template void pack_forward(const ForwardPanels&, int64_t, int64_t, const float*, const Bf16*,
                           float*);
template void pack_table(const ForwardPanels&, const float*, int64_t, const int32_t*, int64_t,
                         int64_t, int64_t, float*);
template void pack_table(const ForwardPanels&, const double*, int64_t, const int32_t*, int64_t,
                         int64_t, int64_t, double*);
template void pack_bias(const ForwardPanels&, const float*, const float*, float*);
template void pack_bias(const ForwardPanels&, const double*, const double*, double*);
template void pack_columns(const ColumnPanels&, const float*, float*);
template void pack_columns(const ColumnPanels&, const double*, double*);

}  // namespace fastrnn
