// Rows of an embedding for token ids, each times a mask: the ops `fastrnn::_embed` and
// `fastrnn::_embed_backward`.
#include <algorithm>
#include <cstring>
#include <functional>

#include "cpu/tokens.h"
#include "token_ids.h"

namespace fastrnn {
namespace {

constexpr int64_t kBytesPerThread = 256 * 1024;

// A mask (B, I) for the rows of each step, dense; or none.
std::optional<Tensor> checked_mask(const std::optional<Tensor>& mask, int64_t B, int64_t I,
                                   const Tensor& like) {
  if (mask) check(*mask, "mask", {B, I}, like);
  return dense(mask);
}

// ids (T, B), embedding (V, I), mask (B, I) -> (T, B, I).
Tensor embed(const Tensor& ids, const Tensor& embedding, const std::optional<Tensor>& mask) {
  STD_TORCH_CHECK(embedding.dim() == 2 && embedding.is_cpu(),
                  "embedding must be (V, I), on the CPU");
  const int64_t V = embedding.size(0), I = embedding.size(1);
  check_ids(ids, embedding, V);
  const Steps steps(ids, std::nullopt, -1);
  const TokenIds tokens(ids, steps, V);
  const auto factors = checked_mask(mask, steps.B, I, embedding);
  const Tensor rows = dense(embedding);
  Tensor output = empty({steps.T, steps.B, I}, embedding.scalar_type());
  const int64_t grain = kBytesPerThread / std::max<int64_t>(1, I * embedding.element_size()) + 1;
  dispatch(embedding.scalar_type(), [&](auto zero) {
    using E = decltype(zero);
    if constexpr (sizeof(E) >= sizeof(float)) {
      const E *from = data<E>(rows), *factor = data<E>(factors);
      E* to = mutable_data<E>(output);
      parallel_for(steps.rows(), grain, [&](int64_t begin, int64_t end) {
        if (!factor) return gather_rows(from, tokens + begin, end - begin, I, to + begin * I);
        for (int64_t row = begin; row < end; ++row) {
          const E *values = from + tokens[row] * I, *each = factor + row % steps.B * I;
          std::transform(values, values + I, each, to + row * I, std::multiplies<E>());
        }
      });
    }
  });
  return output;
}

// grad (T, B, I) -> (vocabulary, I), zeros for tokens that do not occur.
Tensor embed_backward(const Tensor& grad, const Tensor& ids, const std::optional<Tensor>& mask,
                      int64_t vocabulary) {
  check_on_cpu(grad);
  check_ids(ids, grad, vocabulary);
  const Steps steps(ids, std::nullopt, -1);
  const TokenIds tokens(ids, steps, vocabulary);
  const int64_t I = grad.dim() == 3 ? grad.size(2) : 0;
  check(grad, "grad", {steps.T, steps.B, I}, grad);
  const auto factors = checked_mask(mask, steps.B, I, grad);
  const Tensor rows = dense(grad);
  Tensor result = empty({vocabulary, I}, grad.scalar_type());
  std::memset(result.mutable_data_ptr(), 0, result.numel() * result.element_size());
  dispatch(grad.scalar_type(), [&](auto zero) {
    using E = decltype(zero);
    if constexpr (sizeof(E) >= sizeof(float)) {
      const Distinct distinct(tokens, steps.rows(), vocabulary);
      const TokenSums<E> sums(distinct, I);
      sums.add(data<E>(rows), I, 0, steps.rows(), data<E>(factors), std::max<int64_t>(steps.B, 1));
      scatter_rows(sums.totals(), distinct.tokens(), distinct.count(), I, mutable_data<E>(result));
    }
  });
  return result;
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastrnn, m) {
  m.def("_embed(Tensor ids, Tensor embedding, Tensor? mask=None) -> Tensor");
  m.def(
      "_embed_backward(Tensor grad, Tensor ids, Tensor? mask, SymInt vocabulary) -> Tensor "
      "grad_embedding");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("_embed", TORCH_BOX(&embed));
  m.impl("_embed_backward", TORCH_BOX(&embed_backward));
}

}  // namespace
}  // namespace fastrnn
