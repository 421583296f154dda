// One step of the recurrence forward: both matrix products and the cell of a tile of rows by a
// block of hidden units stay in registers.
#pragma once

#include "gemm.inl"

namespace fastrnn {
namespace {

// A step of some rows: its time, where this time's row 0 is among all rows, the same of the time
// before in the timeline's order (-1 for rows that begin here, from hx), the step's place among
// those whose input product is at hand, and the first of the steps whose input product is taken
// beside this one's (-1: none).
struct Moment {
  int64_t t, first, previous, place, ahead;
};

// How far apart the input of a row's steps is, in the order in which they are visited.
template <class T>
int64_t step_stride(const Sequence<const T>& input, const Timeline& timeline) {
  return timeline.reverse ? -input.step_stride : input.step_stride;
}

// One step of one block of hidden units: U vectors of units, R rows to a vector; hidden weights
// of type W.
template <class Cell, class T, int U, int R, class W = Packed<T>>
struct ForwardTile {
  typedef Vec<Wide<T>> V;
  static constexpr int G = Cell::kGates, S = Cell::kSums, K = Cell::kSaved;
  static constexpr int64_t kPanel = G * U * V::kWidth, kUnits = U * V::kWidth / R;
  // The state that layer.carried holds; an Elman cell reads none.
  static constexpr int kCarried = Cell::kStates - 1;
  static constexpr bool kCarries = kCarried > 0 || (kOnlyStored<T> && K > 0);
  // Whether registers are enough for as many sums beside those of a single row.
  static constexpr bool kAhead =
      R == 1 && kPackedElements<T> == 1 && G * U >= kWidePanel && 2 * G * U <= kAccumulators;

  const LayerForward<T>& layer;
  Moment now;
  int64_t block;

  // Of the block: packed rows for the features of h, and behind them those for the input's.
  const W* hidden_weights() const {
    const int64_t hidden = hidden_rows() * kPanel * int64_t(sizeof(W)) / int64_t(sizeof(Packed<T>));
    const int64_t input = packed_rows<T>(layer.shape.I) * kPanel;
    return reinterpret_cast<const W*>(layer.weights + block * (hidden + input));
  }
  const Packed<T>* input_weights() const {
    return reinterpret_cast<const Packed<T>*>(hidden_weights() + hidden_rows() * kPanel);
  }
  int64_t hidden_rows() const { return packed_rows<T>(layer.features); }

  // The two products are summed apart: the one of the input may have been taken before.
  template <int M>
  void run(int64_t row) const {
    const int64_t I = layer.shape.I;
    V hidden[M][G * U], input[M][G * U];
    set_zero(hidden);
    multiply_hidden(hidden, layer.mask ? masked(now.t, row) : h_prev(row));
    if (layer.tokens) return add(hidden, OfTokens<M>(*this, row), row);
    if (layer.projected) {
      load_projected(input, row);
    } else {
      set_zero(input);
      multiply_rows<M, G * U, R>(input, layer.input.at(now.t, row), layer.input.row_stride,
                                 Panel<Packed<T>>{input_weights(), kPanel}, I);
    }
    add(hidden, InRegisters<M>{input}, row);
  }

  template <int M, class Input>
  FASTRNN_INLINE void add(const V (&hidden)[M][G * U], const Input& input, int64_t row) const {
    finish<0, M>(BothProducts<M, Input>{hidden, input}, row);
  }

  template <int M>
  FASTRNN_INLINE void multiply_hidden(V (&hidden)[M][G * U], const T* h) const {
    const Panel<W> panel{hidden_weights(), kPanel};
    if constexpr (kAhead && M == 1) {
      if (now.ahead >= 0) return multiply_ahead(hidden, h, panel);
    }
    const int64_t stride = layer.mask ? layer.features : h_stride();
    multiply_rows<M, G * U, R>(hidden, h, stride, panel, layer.features);
  }

  // Each of the layer.projected_steps that run before those ahead takes one vector of the panel.
  FASTRNN_INLINE void multiply_ahead(V (&hidden)[1][G * U], const T* h,
                                     const Panel<W>& panel) const {
    const int64_t lane = now.place % layer.projected_steps * V::kWidth;
    V input[G * U][1];
    set_zero(input);
    multiply_beside(hidden, h, panel, layer.features, input,
                    layer.input.at(layer.timeline.time(now.ahead), 0),
                    step_stride(layer.input, layer.timeline),
                    Panel<T>{input_weights() + lane, kPanel}, layer.shape.I);
    int64_t place = now.ahead % layer.projected_places;
#pragma GCC unroll 16
    for (int r = 0; r < G * U; ++r) {
      store(projected(place, 0) + lane, input[r][0]);
      if (++place == layer.projected_places) place = 0;
    }
  }

  // Sum s of vector u of the units and vector r of the rows; input(r, v) is vector v of a panel.
  template <int M, class Input>
  struct BothProducts {
    const V (&hidden)[M][G * U];
    const Input& input;
    FASTRNN_INLINE V operator()(int r, int u, int s) const {
      // hidden sums [S - G, S) and input sums [0, G): cells.h
      if (s < S - G) return input(r, s * U + u);
      const V sum = hidden[r][(s - (S - G)) * U + u];
      return s < G ? sum + input(r, s * U + u) : sum;
    }
  };
  // Input products of M vectors of rows.
  template <int M>
  struct InRegisters {
    const V (&sums)[M][G * U];
    FASTRNN_INLINE V operator()(int r, int v) const { return sums[r][v]; }
  };
  // Those in the table of the rows' tokens. They are loaded where they are added: together with the
  // hidden sums they would not fit the registers.
  template <int M>
  struct OfTokens {
    const Wide<T>* rows[M * R];
    FASTRNN_INLINE OfTokens(const ForwardTile& tile, int64_t row) {
      const LayerForward<T>& layer = tile.layer;
      const Wide<T>* table = layer.table + tile.block * layer.table_rows * kPanel;
#pragma GCC unroll 16
      for (int r = 0; r < M * R; ++r) {
        rows[r] = table + layer.tokens[tile.now.first + row + r] * kPanel;
      }
    }
    FASTRNN_INLINE V operator()(int r, int v) const {
      const int64_t lane = v * V::kWidth;
      if constexpr (R > 1) {
        return load_pair_raw(rows[r * R] + lane, rows[r * R + 1] + lane, V::kWidth / R);
      } else {
        return load(rows[r] + lane);
      }
    }
  };

  const T* h_prev(int64_t row) const {
    const int64_t index = now.previous < 0 ? row : now.previous + row;
    return (now.previous < 0 ? layer.hx : layer.output) + index * h_stride();
  }

  int64_t h_stride() const { return now.previous < 0 ? layer.features : layer.output_stride; }

  // What the step at time t multiplies by the hidden weights.
  T* masked(int64_t t, int64_t row) const {
    return layer.masked + ((t & 1) * layer.shape.B + row) * layer.features;
  }

  Wide<T>* projected(int64_t place, int64_t row) const {
    return layer.projected +
           ((block * layer.projected_places + place) * layer.projected_rows + row) * kPanel;
  }

  template <int M>
  FASTRNN_INLINE void load_projected(V (&input)[M][G * U], int64_t row) const {
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
      const Wide<T>* from = projected(now.place, row + r);
#pragma GCC unroll 16
      for (int v = 0; v < G * U; ++v) input[r][v] = load(from + v * V::kWidth);
    }
  }

  // The cell of vectors [first, M * U) of the tile, a group at a time; vector i is of row i / U.
  template <int first, int M, class Sums>
  FASTRNN_INLINE void finish(const Sums& sums_of, int64_t row) const {
    constexpr int kLeft = M * U - first;
    if constexpr (kLeft > 0) {
      constexpr int N = kLeft < kGroup ? kLeft : kGroup;
      const Wide<T>* bias = layer.bias + block * S * U * V::kWidth;
      Group<V, N> sums[S];
#pragma GCC unroll 4
      for (int s = 0; s < S; ++s) {
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          const int r = (first + i) / U, u = (first + i) % U;
          sums[s].v[i] = sums_of(r, u, s) + load(bias + (s * U + u) * V::kWidth);
        }
      }
      cells<first>(sums, row);
      finish<first + N, M>(sums_of, row);
    }
  }

  template <int first, int N>
  FASTRNN_INLINE void cells(const Group<V, N>* sums, int64_t row) const {
    const int64_t H = layer.shape.H, unit = block * kUnits;
    Group<V, N> state[Cell::kStates], saved[K + 1];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const int64_t b = row + (first + i) / U * R, j = unit + (first + i) % U * V::kWidth;
      if (U > 1 && j >= H) {  // a panel may be wider than what is left of the units
        for (Group<V, N>& group : state) group.v[i] = V(Wide<T>(0));
        continue;
      }
      if constexpr (kCarries) {
        state[kCarried].v[i] = load_rows<R>(layer.carried + b * H + j, H, H - j);
      } else {
        state[0].v[i] = load_rows<R>(h_prev(b) + j, h_stride(), H - j);
      }
    }
    Cell::forward(sums, state, saved);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const int64_t b = row + (first + i) / U * R, j = unit + (first + i) % U * V::kWidth;
      if (U > 1 && j >= H) continue;
      const bool projects = layer.projection;
      const int64_t stride = projects ? H : layer.output_stride;
      T* h = projects ? layer.unprojected + b * H : layer.output + (now.first + b) * stride;
      store_rows<R>(h + j, stride, state[0].v[i], H - j);
      if (layer.mask) {
        const V mask = load_rows<R>(layer.mask + b * H + j, H, H - j);
        store_rows<R>(masked(now.t + 1, b) + j, H, state[0].v[i] * mask, H - j);
      }
      if constexpr (kCarries) {
        store_rows<R>(layer.carried + b * H + j, H, state[kCarried].v[i], H - j);
      }
      if (K > 0 && layer.reserve) {
        T* reserve = layer.reserve + (now.first + b) * K * H + j;
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) store_rows<R>(reserve + k * H, K * H, saved[k].v[i], H - j);
      }
    }
  }
};

}  // namespace
}  // namespace fastrnn
