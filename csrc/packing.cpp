// From rows of different lengths in a padded array to rows without padding, and back: the ops
// `fastrnn::_sort_lengths`, `fastrnn::_pack` and `fastrnn::_unpack`.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>

#include "cpu/threads.h"
#include "steps.h"
#include "tensors.h"

namespace fastrnn {
namespace {

constexpr int64_t kBytesPerThread = 256 * 1024;

Tensor indices(int64_t n) { return empty({n}, ScalarType::Long); }

const int64_t* checked_indices(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.is_cpu() &&
                      tensor.scalar_type() == ScalarType::Long && tensor.is_contiguous(),
                  name, " must be a contiguous int64 CPU tensor of one dimension");
  return data<int64_t>(tensor);
}

// lengths (B) -> the rows' indices, longest first and equal ones in their order; where each row is
// among them; and how many rows there are at each of T steps.
std::tuple<Tensor, Tensor, Tensor> sort_lengths(const Tensor& lengths, int64_t T) {
  const int64_t* length = checked_indices(lengths, "lengths");
  const int64_t B = lengths.size(0);
  for (int64_t b = 0; b < B; ++b) {
    STD_TORCH_CHECK(length[b] >= 0 && length[b] <= T, "lengths must be from 0 to the ", T,
                    " steps of input, got ", length[b], " for row ", b);
  }
  Tensor sorted = indices(B), unsorted = indices(B), batch_sizes = indices(T);
  int64_t *order = mutable_data<int64_t>(sorted), *place = mutable_data<int64_t>(unsorted);
  std::iota(order, order + B, 0);
  std::stable_sort(order, order + B, [&](int64_t a, int64_t b) { return length[a] > length[b]; });
  for (int64_t row = 0; row < B; ++row) place[order[row]] = row;
  int64_t rows = B;
  for (int64_t t = 0; t < T; ++t) {
    while (rows > 0 && length[order[rows - 1]] <= t) --rows;
    mutable_data<int64_t>(batch_sizes)[t] = rows;
  }
  return {sorted, unsorted, batch_sizes};
}

// Copies between a padded array (T, B, features) and a packed one (rows, features).
class Packing {
 public:
  // left: a row's steps are the last ones of the padded array, not the first.
  Packing(const Tensor& sorted_indices, const Tensor& batch_sizes, const Tensor& packed, bool left)
      : T(batch_sizes.size(0)),
        B(sorted_indices.size(0)),
        order_(checked_indices(sorted_indices, "sorted_indices")),
        steps_(packed, batch_sizes, B),
        first_(B, 0) {
    for (int64_t b = 0; b < B; ++b) {
      STD_TORCH_CHECK(order_[b] >= 0 && order_[b] < B, "sorted_indices must be from 0 to ", B - 1,
                      ", got ", order_[b]);
    }
    const Timeline timeline = steps_.timeline(false);
    int64_t length = timeline.T;
    for (int64_t row = 0; left && row < B; ++row) {
      while (length > 0 && timeline.rows(length - 1) <= row) --length;
      first_[row] = T - length;
    }
  }

  const int64_t T, B;
  int64_t rows() const { return steps_.rows(); }

  // move(time, b, packed row) for each step of each row.
  template <class Move>
  void each(int64_t row_bytes, const Move& move) const {
    const Timeline timeline = steps_.timeline(false);
    const int64_t grain = kBytesPerThread / std::max<int64_t>(1, row_bytes * B) + 1;
    parallel_for(timeline.T, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t first = timeline.first_row(t);
        for (int64_t row = 0; row < timeline.rows(t); ++row) {
          move(first_[row] + t, order_[row], first + row);
        }
      }
    });
  }

 private:
  const int64_t* order_;
  Steps steps_;
  std::vector<int64_t> first_;  // of each row: the time of its first step
};

// input (T, B, features) -> (rows, features), or ids (T, B) -> (rows); where trim is false with
// zeros behind the last row up to T * B: a size that is known before the lengths are.
Tensor pack(const Tensor& input, const Tensor& sorted_indices, const Tensor& batch_sizes, bool left,
            bool trim) {
  const bool ids = is_ids(input);
  if (!ids) check_dtype(input);
  STD_TORCH_CHECK(input.dim() == (ids ? 2 : 3) && input.is_cpu(),
                  "input must be (T, B, features), or ids (T, B), on the CPU");
  const int64_t* sizes = checked_indices(batch_sizes, "batch_sizes");
  const int64_t rows = trim ? std::accumulate(sizes, sizes + batch_sizes.size(0), int64_t{0})
                            : input.size(0) * input.size(1);
  STD_TORCH_CHECK(0 <= rows && rows <= input.size(0) * input.size(1),
                  "batch_sizes must add up to no more than the rows of input, got ", rows);
  const int64_t features = ids ? 1 : input.size(2);
  const Tensor from = ids ? input : with_contiguous_features(input);
  Tensor packed =
      ids ? empty({rows}, input.scalar_type()) : empty({rows, features}, input.scalar_type());
  const Packing packing(sorted_indices, batch_sizes, packed, left);
  STD_TORCH_CHECK(input.size(0) == packing.T && input.size(1) == packing.B,
                  "input must have the steps of batch_sizes and the rows of sorted_indices");
  const int64_t size = input.element_size(), bytes = features * size;
  const int64_t step_stride = from.stride(0) * size, row_stride = from.stride(1) * size;
  char* to = static_cast<char*>(packed.mutable_data_ptr());
  const char* data = static_cast<const char*>(from.const_data_ptr());
  packing.each(bytes, [&](int64_t t, int64_t b, int64_t row) {
    std::memcpy(to + row * bytes, data + t * step_stride + b * row_stride, bytes);
  });
  const int64_t unused = rows - packing.rows();
  if (unused > 0 && bytes > 0) std::memset(to + packing.rows() * bytes, 0, unused * bytes);
  return packed;
}

// packed (rows, features) -> (T, B, features), zeros where a row has no step.
Tensor unpack(const Tensor& packed, const Tensor& sorted_indices, const Tensor& batch_sizes,
              bool left) {
  check_dtype(packed);
  const Packing packing(sorted_indices, batch_sizes, packed, left);
  const Tensor from = dense(packed);
  Tensor padded = empty({packing.T, packing.B, packed.size(1)}, packed.scalar_type());
  const int64_t bytes = packed.size(1) * packed.element_size();
  char* to = static_cast<char*>(padded.mutable_data_ptr());
  const char* data = static_cast<const char*>(from.const_data_ptr());
  if (padded.numel() > packing.rows() * packed.size(1)) {
    std::memset(to, 0, padded.numel() * padded.element_size());
  }
  packing.each(bytes, [&](int64_t t, int64_t b, int64_t row) {
    std::memcpy(to + (t * packing.B + b) * bytes, data + row * bytes, bytes);
  });
  return padded;
}

STABLE_TORCH_LIBRARY_FRAGMENT(fastrnn, m) {
  m.def(
      "_sort_lengths(Tensor lengths, SymInt T) -> (Tensor sorted_indices, Tensor unsorted_indices, "
      "Tensor batch_sizes)");
  m.def(
      "_pack(Tensor input, Tensor sorted_indices, Tensor batch_sizes, bool left, bool trim) -> "
      "Tensor");
  m.def("_unpack(Tensor packed, Tensor sorted_indices, Tensor batch_sizes, bool left) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("_sort_lengths", TORCH_BOX(&sort_lengths));
  m.impl("_pack", TORCH_BOX(&pack));
  m.impl("_unpack", TORCH_BOX(&unpack));
}

}  // namespace
}  // namespace fastrnn
