// Integer input: which tokens a call has, and sums over the rows of each.
#pragma once

#include <cstdint>

#include "machine.h"
#include "pack.h"
#include "plan.h"
#include "run.h"
#include "scratch.h"
#include "threads.h"

namespace fastrnn {

// The tokens that occur among some ids, in order of their ids; so what is summed over tokens does
// not depend on where they occur.
class Distinct {
 public:
  // ids (rows), each of [0, vocabulary).
  Distinct(const int32_t* ids, int64_t rows, int64_t vocabulary);

  int64_t rows() const { return rows_; }
  int64_t count() const { return count_; }
  const int32_t* tokens() const { return tokens_; }  // (count)
  const int32_t* places() const { return places_; }  // (rows): of each row's token among them

 private:
  const int64_t rows_;
  int64_t count_ = 0;
  const Scratch<int32_t> tokens_, places_;
};

// Sums of the rows of each token, over chunks of rows.
template <class T>
class TokenSums {
 public:
  TokenSums(const Distinct& distinct, int64_t columns);

  // Adds rows [first, first + count), which are `stride` apart in memory; factors (factor_rows,
  // columns) or null. Threads share the columns, so each sum has its order.
  void add(const T* rows, int64_t stride, int64_t first, int64_t count, const T* factors,
           int64_t factor_rows) const;

  const T* totals() const { return totals_; }  // (tokens, columns)

 private:
  const int64_t columns_, tokens_;
  const Scratch<int32_t> order_;          // the rows, token after token
  const Scratch<int32_t> firsts_;         // (tokens + 1): of each token in order_
  const Scratch<int32_t> begins_, ends_;  // (tokens): the same of those added last
  const Scratch<T> totals_;
};

// The input products of `count` tokens, or where `tokens` is null of as many in their order:
// [block][token][vectors of a panel], for the panels of a layer without other input.
template <class T>
void form_table(ForwardPanels panels, const Weights<T>& weights, int64_t I, const int32_t* tokens,
                int64_t count, T* table);

// Rows `tokens` (count) of the embedding (vocabulary, I), one after the other.
template <class T>
void gather_rows(const T* embedding, const int32_t* tokens, int64_t count, int64_t I, T* to);

// The reverse: writes these rows of `to` and no others.
template <class T>
void scatter_rows(const T* rows, const int32_t* tokens, int64_t count, int64_t I, T* to);

}  // namespace fastrnn
