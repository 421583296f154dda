#include "tokens.h"

#include <algorithm>
#include <numeric>

namespace fastrnn {
Distinct::Distinct(const int32_t* ids, int64_t rows, int64_t vocabulary)
    : rows_(rows), tokens_(std::min(rows, vocabulary)), places_(rows) {
  const Scratch<int32_t> place(vocabulary);
  std::fill_n(static_cast<int32_t*>(place), vocabulary, 0);
  for (int64_t row = 0; row < rows; ++row) place[ids[row]] = 1;
  for (int64_t token = 0; token < vocabulary; ++token) {
    if (place[token] == 0) continue;
    place[token] = static_cast<int32_t>(count_);
    tokens_[count_++] = static_cast<int32_t>(token);
  }
  for (int64_t row = 0; row < rows; ++row) places_[row] = place[ids[row]];
}

template <class T>
TokenSums<T>::TokenSums(const Distinct& distinct, int64_t columns)
    : columns_(columns),
      tokens_(distinct.count()),
      order_(distinct.rows()),
      firsts_(tokens_ + 1),
      begins_(tokens_),
      ends_(tokens_),
      totals_(tokens_ * columns) {
  std::fill_n(static_cast<T*>(totals_), tokens_ * columns, T(0));
  // Counted, added up, and moved on while the rows are put into their places.
  int32_t* next = firsts_;
  std::fill_n(next, tokens_ + 1, 0);
  for (int64_t row = 0; row < distinct.rows(); ++row) ++next[distinct.places()[row] + 1];
  std::partial_sum(next, next + tokens_ + 1, next);
  std::copy_n(next, tokens_, static_cast<int32_t*>(ends_));
  for (int64_t row = 0; row < distinct.rows(); ++row) {
    order_[ends_[distinct.places()[row]]++] = static_cast<int32_t>(row);
  }
}

template <class T>
void TokenSums<T>::add(const T* rows, int64_t stride, int64_t first, int64_t count,
                       const T* factors, int64_t factor_rows) const {
  const int32_t* order = order_;
  for (int64_t token = 0; token < tokens_; ++token) {
    const int32_t *stop = order + firsts_[token + 1],
                  *begin = std::lower_bound(order + firsts_[token], stop, first);
    begins_[token] = static_cast<int32_t>(begin - order);
    ends_[token] = static_cast<int32_t>(std::lower_bound(begin, stop, first + count) - order);
  }
  const KernelTable<T>& kernels = current_kernels().table<T>();
  const RowSums<T> sums{rows,    stride, first,   columns_,    tokens_, order_,
                        begins_, ends_,  factors, factor_rows, totals_};
  const int64_t width = kernels.width, vectors = (columns_ + width - 1) / width;
  parallel_for(vectors, items_per_thread(kFlopPerCopy * count * width),
               [&](int64_t begin, int64_t end) {
                 kernels.sum_rows(sums, begin * width, std::min(end * width, columns_));
               });
}

template <class T>
void gather_rows(const T* embedding, const int32_t* tokens, int64_t count, int64_t I, T* to) {
  for (int64_t row = 0; row < count; ++row) {
    to = std::copy_n(embedding + tokens[row] * I, I, to);
  }
}

template <class T>
void scatter_rows(const T* rows, const int32_t* tokens, int64_t count, int64_t I, T* to) {
  for (int64_t row = 0; row < count; ++row) {
    std::copy_n(rows + row * I, I, to + tokens[row] * I);
  }
}

template <class T>
void form_table(ForwardPanels panels, const Weights<T>& weights, int64_t I, const int32_t* tokens,
                int64_t count, T* table) {
  const int64_t blocks = panels.blocks(), panel = gates(panels.mode) * panels.lanes();
  if (!weights.embedding) {
    const int64_t grain = items_per_thread(kFlopPerCopy * blocks * panel);
    return parallel_for(count, grain, [&](int64_t begin, int64_t end) {
      pack_table(panels, weights.weight_ih, I, tokens, count, begin, end, table);
    });
  }
  panels.features = 0;
  panels.shape.I = I;
  const Scratch<T> packed(panels.weights()), gathered(tokens ? count * I : 0);
  pack_forward<T, T>(panels, 0, blocks, weights.weight_ih, nullptr, packed);
  if (tokens) gather_rows(weights.embedding, tokens, count, I, static_cast<T*>(gathered));
  const int64_t vectors = gates(panels.mode) * panels.vectors;
  const int64_t panel_vectors = vectors % 4 == 0 ? 4 : vectors % 2 == 0 ? 2 : 1;
  const auto product = current_kernels().table<T>().product;
  parallel_for(count, items_per_thread(2 * I * blocks * panel), [&](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < blocks; ++block) {
      // A block's weights are the matrix (I, panel).
      product({tokens ? gathered : weights.embedding, I, 0, packed + block * I * panel, true,
               panel_vectors, table + block * count * panel, panel, I, panel, 0, panel, false},
              begin, end);
    }
  });
}

template class TokenSums<float>;
template class TokenSums<double>;
template void form_table(ForwardPanels, const Weights<float>&, int64_t, const int32_t*, int64_t,
                         float*);
template void form_table(ForwardPanels, const Weights<double>&, int64_t, const int32_t*, int64_t,
                         double*);
template void scatter_rows(const float*, const int32_t*, int64_t, int64_t, float*);
template void scatter_rows(const double*, const int32_t*, int64_t, int64_t, double*);
template void gather_rows(const float*, const int32_t*, int64_t, int64_t, float*);
template void gather_rows(const double*, const int32_t*, int64_t, int64_t, double*);

}  // namespace fastrnn
