#include "pack.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace fastrnn {
namespace {

// Where a row of a gate's panel of P holds a lane.
template <class P>
int64_t place_of(const ForwardPanels& p, int64_t lane) {
  if constexpr (!std::is_same_v<P, Bf16>) return lane;
  const int64_t vector = lane / p.width;
  return vector / 2 * 2 * p.width + lane % p.width * 2 + vector % 2;
}

// What lane k of a row of K elements is: one of them, or the k-th pair.
template <class P, class W>
P lane_of(const W* row, int64_t k, int64_t K) {
  if constexpr (sizeof(P) == sizeof(W)) {
    return row[k];
  } else {
    return {row[2 * k], 2 * k + 1 < K ? row[2 * k + 1] : W{}};
  }
}

constexpr int64_t kSide = 4;

// to[k * stride + unit] = lane k of the unit's row, for k and unit below kSide. Compilers keep the
// square in registers.
template <class P, class W>
void transpose_square(const W* from, int64_t K, P* to, int64_t stride) {
  P columns[kSide][kSide];
  for (int64_t unit = 0; unit < kSide; ++unit) {
    for (int64_t k = 0; k < kSide; ++k)
      std::memcpy(&columns[k][unit], from + unit * K + k * (sizeof(P) / sizeof(W)), sizeof(P));
  }
  for (int64_t k = 0; k < kSide; ++k) std::memcpy(to + k * stride, columns[k], sizeof(columns[k]));
}

// to[k * stride + lane] = lane k of the unit's row, or lane tokens[k] where there are tokens, for
// the panel's lanes and k in [begin, end); zero for units from `count` on. Blocks of k keep both
// sides in cache, squares are moved in registers: packing lane by lane was a sixth of the time of
// GRU training at (100, 1, 128, 128), and took three times as long where the weights were in
// no cache.
template <class P, class W>
void transpose_units(const ForwardPanels& p, const W* from, int64_t count, int64_t K, int64_t begin,
                     int64_t end, const int32_t* tokens, P* to, int64_t stride) {
  constexpr int64_t kBlock = 16, kElements = sizeof(P) / sizeof(W);
  for (int64_t k = begin; k < end; k += kBlock) {
    const int64_t k_end = std::min(end, k + kBlock);
    for (int64_t first = 0; first < p.lanes(); first += kSide) {
      const int64_t first_unit = first % p.units(), last = std::min(first + kSide, p.lanes());
      int64_t i = k;
      if constexpr (!std::is_same_v<P, Bf16>)  // whose lanes alternate
        if (!tokens && first_unit + kSide <= std::min(count, p.units()))
          for (; i + kSide <= k_end && (i + kSide) * kElements <= K; i += kSide)
            transpose_square(from + first_unit * K + i * kElements, K, to + i * stride + first,
                             stride);
      for (int64_t lane = first; i < k_end && lane < last; ++lane) {
        const int64_t unit = lane % p.units();
        P* column = to + place_of<P>(p, lane);
        for (int64_t j = i; j < k_end; ++j)
          column[j * stride] =
              unit < count ? lane_of<P>(from + unit * K, tokens ? tokens[j] : j, K) : P{};
      }
    }
  }
}

}  // namespace

template <class T, class W>
void pack_forward(const ForwardPanels& p, int64_t begin, int64_t end, const T* weight_ih,
                  const W* weight_hh, Packed<T>* packed) {
  typedef std::conditional_t<std::is_same_v<T, W>, Packed<T>, W> Hidden;
  const int64_t G = gates(p.mode), I = p.shape.I, H = p.shape.H, row = G * p.lanes();
  packed += begin * p.block_weights();
  for (int64_t block = begin; block < end; ++block, packed += p.block_weights()) {
    const int64_t unit = block * p.units();
    const int64_t count = std::min(H - unit, p.units());
    for (int64_t g = 0; g < G; ++g) {
      const int64_t input_row = input_gate(p.mode, g) * H + unit, hidden_row = g * H + unit;
      Hidden* hidden = reinterpret_cast<Hidden*>(packed) + g * p.lanes();
      Packed<T>* input = packed + p.hidden_weights() + g * p.lanes();
      const int64_t F = p.features, rows = packed_rows<T>(F), input_rows = packed_rows<T>(I);
      transpose_units(p, weight_hh + hidden_row * F, count, F, 0, rows, nullptr, hidden, row);
      transpose_units(p, weight_ih + input_row * I, count, I, 0, input_rows, nullptr, input, row);
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
      transpose_units(p, from, units, I, begin, end, tokens, to, row);
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
void pack_columns(const ColumnPanels& p, const T* matrix, Packed<T>* packed) {
  const auto row = [&](int64_t k) { return matrix + (k + p.first) % p.K * p.N; };
  for (int64_t column = 0; column < p.N; column += p.columns) {
    const int64_t n = std::min(p.N - column, p.columns);
    for (int64_t k = 0; k < p.K; k += kPackedElements<T>, packed += p.columns) {
      const T* first = row(k) + column;
      if constexpr (kPackedElements<T> == 1) {
        std::copy(first, first + n, packed);
      } else if (k + 1 < p.K) {
        const T* second = row(k + 1) + column;
        for (int64_t c = 0; c < n; ++c) packed[c] = {first[c], second[c]};
      } else {
        for (int64_t c = 0; c < n; ++c) packed[c] = {first[c], T{}};
      }
      std::fill(packed + n, packed + p.columns, Packed<T>{});
    }
  }
}

template void pack_forward(const ForwardPanels&, int64_t, int64_t, const float*, const float*,
                           float*);
template void pack_forward(const ForwardPanels&, int64_t, int64_t, const double*, const double*,
                           double*);
template void pack_forward(const ForwardPanels&, int64_t, int64_t, const float*, const Bf16*,
                           float*);
template void pack_forward(const ForwardPanels&, int64_t, int64_t, const Bf16*, const Bf16*,
                           Bf16Pair*);
template void pack_table(const ForwardPanels&, const float*, int64_t, const int32_t*, int64_t,
                         int64_t, int64_t, float*);
template void pack_table(const ForwardPanels&, const double*, int64_t, const int32_t*, int64_t,
                         int64_t, int64_t, double*);
template void pack_bias(const ForwardPanels&, const float*, const float*, float*);
template void pack_bias(const ForwardPanels&, const double*, const double*, double*);
template void pack_columns(const ColumnPanels&, const float*, float*);
template void pack_columns(const ColumnPanels&, const double*, double*);
template void pack_columns(const ColumnPanels&, const Bf16*, Bf16Pair*);

}  // namespace fastrnn
