// A mask of dropout, drawn and scaled by one op: for so few elements as a step of a small layer
// has, three of torch's cost a tenth of its training.
#include <array>

#include "tensors.h"

namespace fastrnn {
namespace {

// (B, features), each 0 with probability p, else 1 / (1 - p); as bernoulli_(1 - p) draws them.
Tensor draw_mask(int64_t B, int64_t features, double p, ScalarType dtype) {
  STD_TORCH_CHECK(B >= 0 && features >= 0 && 0 <= p && p < 1, "p must be in [0, 1), got ", p);
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double,
                  "a mask must be float32 or float64");
  std::array<StableIValue, 3> stack = {torch::stable::detail::from(empty({B, features}, dtype)),
                                       torch::stable::detail::from(1 - p),
                                       torch::stable::detail::from(std::nullopt)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::bernoulli_", "float", stack.data(), TORCH_ABI_VERSION));
  const Tensor mask = torch::stable::detail::to<Tensor>(stack[0]);
  dispatch(dtype, [&](auto zero) {
    using E = decltype(zero);
    if constexpr (sizeof(E) >= sizeof(float)) {
      E *each = mutable_data<E>(mask), *end = each + B * features;
      for (; each < end; ++each) *each /= static_cast<E>(1 - p);
    }
  });
  return mask;
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastrnn, m) {
  m.def("_draw_mask(int B, int features, float p, ScalarType dtype) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CompositeExplicitAutograd, m) {
  m.impl("_draw_mask", TORCH_BOX(&draw_mask));
}

}  // namespace
}  // namespace fastrnn
