// A single step: each weight is used once for each row, so packing would cost more than it gains.
// Sums run along k, over rows of the weights where they are; each has the same order whichever rows
// come with it.
#pragma once

namespace fastrnn {
namespace {

// From N vectors to one: neighbouring lanes in 16 bytes are added, those of the first vector before
// those of the second, until one lane is left of each in every 16 bytes.
template <int N, class T>
FASTRNN_INLINE Vec<T> fold_near(const Vec<T>* v) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    const Vec<T> a = fold_near<N / 2>(v), b = fold_near<N / 2>(v + N / 2);
    return Vec<T>(even_raw(a.raw, b.raw)) + Vec<T>(odd_raw(a.raw, b.raw));
  }
}

// The same with pieces of 16 bytes for lanes: one piece is left of each vector.
template <int N, class T>
FASTRNN_INLINE Vec<T> fold_far(const Vec<T>* v, int64_t stride) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    const Vec<T> a = fold_far<N / 2>(v, stride), b = fold_far<N / 2>(v + N / 2 * stride, stride);
    return Vec<T>(even_pieces_raw(a.raw, b.raw)) + Vec<T>(odd_pieces_raw(a.raw, b.raw));
  }
}

// Vector i of the result has lane i of each 16 bytes of all N vectors, which are as many as lanes.
template <int N, class T>
FASTRNN_INLINE void transpose(const Vec<T> (&v)[N], Vec<T>* to) {
  const auto even = [&](int i) { return even_raw(v[i].raw, v[i + 1].raw); };
  const auto odd = [&](int i) { return odd_raw(v[i].raw, v[i + 1].raw); };
  if constexpr (N == 2) {
    to[0] = even(0), to[1] = odd(0);
  } else {
    to[0] = even_raw(even(0), even(2)), to[2] = odd_raw(even(0), even(2));
    to[1] = even_raw(odd(0), odd(2)), to[3] = odd_raw(odd(0), odd(2));
  }
}

// acc[r][n] += elementwise products of a's row r and weights[n].
template <int M, int N, class T>
FASTRNN_INLINE void accumulate_rows(Vec<Wide<T>> (&acc)[M][N], const T* a, int64_t a_stride,
                                    const T* const (&weights)[N], int64_t K) {
  typedef Vec<Packed<T>> V;
  constexpr int64_t kElements = V::kWidth * kPackedElements<T>;
  const auto add = [&](int64_t k, int64_t n) __attribute__((always_inline)) {
    V rows[M];
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) rows[r] = load_packed(a + r * a_stride + k, n);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      V w = load_packed(weights[i] + k, n);
      pin_raw(w.raw);
#pragma GCC unroll 16
      for (int r = 0; r < M; ++r) acc[r][i] = fma(rows[r], w, acc[r][i]);
    }
  };
  int64_t k = 0;
  for (; k + kElements <= K; k += kElements) add(k, kElements);
  if (k < K) add(k, K - k);
}

// Lanes in 16 bytes.
template <class T>
constexpr int kLanes = 16 / sizeof(Wide<T>);

// Adds the products of rows by N rows of weights, which are those from kFirst on of kAll; to: for
// each row, to_stride apart, kAll / kLanes vectors with a lane of each product in every 16 bytes.
template <class T, int N, int kFirst, int kAll>
struct DotTile {
  typedef Vec<Wide<T>> V;
  const T* a;
  int64_t a_stride;
  const T* (&weights)[N];
  int64_t K;
  V* to;
  int64_t to_stride;

  template <int M>
  FASTRNN_INLINE void run(int64_t row) const {
    V acc[M][N];
    set_zero(acc);
    accumulate_rows(acc, a + row * a_stride, a_stride, weights, K);
#pragma GCC unroll 16
    for (int r = 0; r < M; ++r) {
      V all[kAll];
      for (V& each : all) each = V(Wide<T>(0));
      for (int n = 0; n < N; ++n) all[kFirst + n] = acc[r][n];
      V* sums = to + (row + r) * to_stride;
      for (int i = 0; i < kAll; i += kLanes<T>, ++sums)
        *sums = *sums + fold_near<kLanes<T>>(all + i);
    }
  }
};

// The step of one block of units. Some rows at a time stay in the first-level cache while the
// weights of the block pass, and each weight that is loaded multiplies all rows of a tile.
template <class Cell, class T>
struct SingleStepBlock {
  typedef Vec<Wide<T>> V;
  static constexpr int G = Cell::kGates, S = Cell::kSums;
  // Sums at a time: all of one unit, or of a cell with one sum those of four units, where a block
  // has as many.
  static constexpr int kUnits = S > 1 ? 1 : V::kWidth < 4 ? V::kWidth : 4, kSums = S * kUnits;
  static constexpr int kTileRows = tile_rows(G * kUnits), kRows = 2 * kTileRows;
  static constexpr int kPieces = kVectorBytes / 16, kParts = S * kPieces;

  ForwardTile<Cell, T, 1, 1> tile;

  // Sums of the rows from `first` on.
  struct Finish {
    const SingleStepBlock& block;
    const V (*sums)[S];
    int64_t first;

    template <int M>
    void run(int64_t row) const {
      const V(*of_rows)[S] = sums + (row - first);
      block.tile.template finish<0, M>([=](int r, int, int s) { return of_rows[r][s]; }, row);
    }
  };

  void rows(int64_t row, int64_t end) const {
    const LayerForward<T>& layer = tile.layer;
    const auto [T_, B, I, H] = layer.shape;
    V parts[kRows][kParts], sums[kRows][S];
    for (int64_t next; row < end; row = next) {
      next = end - row < kRows ? end : row + kRows;
      const int64_t count = next - row;
      for (int64_t r = 0; r < count; ++r) {
        for (V& part : parts[r]) part = V(Wide<T>(0));
      }
      add_products<S - G>(parts, layer.hx + row * H, H, count, layer.weight_hh, H);
      add_products<0>(parts, layer.input.at(tile.now.t, row), layer.input.row_stride, count,
                      layer.weight_ih, I);
      for (int64_t r = 0; r < count; ++r) whole_sums(parts[r], sums[r]);
      for_row_tiles<kTileRows, 1, false>(row, next, Finish{*this, sums, row});
    }
  }

  // Sums from kFirst on of all units, in the order [unit][sum]: kLanes in each part.
  template <int kFirst>
  void add_products(V (*parts)[kParts], const T* a, int64_t a_stride, int64_t count,
                    const T* matrix, int64_t K) const {
    const int64_t H = tile.layer.shape.H, first = tile.block * V::kWidth;
    for (int64_t unit = 0; unit < V::kWidth && first + unit < H; unit += kUnits) {
      const T* weights[G * kUnits];
#pragma GCC unroll 4
      for (int n = 0; n < G * kUnits; ++n) {
        // A gate of this sum: of the hidden ones in their order, of the input's as input_gate says.
        const int64_t gate = (n % G + kFirst + 2 * G - S) % G, j = first + unit + n / G;
        weights[n] = matrix + (gate * H + (j < H ? j : H - 1)) * K;
      }
      V* to = &parts[0][unit * S / kLanes<T>];
      const DotTile<T, G * kUnits, kFirst, kSums> dot{a, a_stride, weights, K, to, kParts};
      for_row_tiles<kTileRows, 1, false>(0, count, dot);
    }
  }

  // From parts to a vector of all units for each sum.
  FASTRNN_INLINE static void whole_sums(const V (&parts)[kParts], V (&sums)[S]) {
    constexpr int L = kLanes<T>, kOfUnit = S / L;
    if constexpr (S == 1) {
      sums[0] = fold_far<kPieces>(parts, 1);
    } else {
#pragma GCC unroll 2
      for (int i = 0; i < kOfUnit; ++i) {
        V units[L];  // units l, l + L, l + 2 * L, ...
#pragma GCC unroll 4
        for (int l = 0; l < L; ++l) {
          units[l] = fold_far<kPieces>(parts + l * kOfUnit + i, L * kOfUnit);
        }
        transpose(units, sums + i * L);
      }
    }
  }
};

template <class Cell, class T>
void single_step(const LayerForward<T>& layer, const Part& part) {
  constexpr int64_t kWidth = Vec<Wide<T>>::kWidth;
  const int64_t end = part.rows_end(layer.timeline, 0);
  for (int64_t unit = part.unit; unit < part.unit_end; unit += kWidth) {
    const SingleStepBlock<Cell, T> block{{layer, {0, 0, -1, 0, -1}, unit / kWidth}};
    block.rows(part.row, end);
  }
  give_states(layer, part);
}

}  // namespace
}  // namespace fastrnn
