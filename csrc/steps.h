// The time steps of a call and the rows that each has.
#pragma once

#include <cstring>
#include <vector>

#include "tensors.h"

namespace fastrnn {

// T steps of B rows, in arrays (T, B, features); or with batch_sizes (T) as many rows at each step
// as these say, in arrays (capacity, features) as a PackedSequence has them: row after row, time
// after time, and unused behind the last. batch_sizes do not grow; those at the end may be zero.
class Steps {
 public:
  int64_t T, B, capacity;

  // batch: of the states, which may be more than the first of batch_sizes; or -1. Ids have no
  // features.
  Steps(const Tensor& input, const std::optional<Tensor>& batch_sizes, int64_t batch,
        bool batch_first = false)
      : packed_(batch_sizes.has_value()) {
    const int64_t dims = (packed_ ? 2 : 3) - (is_ids(input) ? 1 : 0);
    STD_TORCH_CHECK(input.dim() == dims, "input must have ", dims, " dimensions, got ",
                    input.dim());
    if (packed_) {
      count(*batch_sizes, input.size(0), batch);
    } else {
      T = input.size(batch_first ? 1 : 0), B = input.size(batch_first ? 0 : 1);
      STD_TORCH_CHECK(T > 0, "input must have T > 0");
      capacity = T * B;
    }
  }

  Timeline timeline(bool reverse) const {
    return {T, B, reverse, offsets_.empty() ? nullptr : offsets_.data()};
  }
  int64_t rows() const { return timeline(false).first_row(T); }
  // As a Timeline has them; empty where all rows have all steps.
  const std::vector<int64_t>& offsets() const { return offsets_; }

  template <class E>
  Sequence<const E> sequence(const Tensor& tensor) const {
    if (!packed_) return {data<E>(tensor), tensor.stride(0), tensor.stride(1), nullptr};
    const int64_t stride = tensor.stride(0);
    return {data<E>(tensor), B * stride, stride, timeline(false).offsets};
  }

  // A new array on the CPU, not initialised where there are rows.
  Tensor features(int64_t n, ScalarType dtype) const {
    if (!packed_) return empty({T, B, n}, dtype);
    Tensor tensor = empty({capacity, n}, dtype);
    const int64_t row_bytes = n * tensor.element_size(), unused = capacity - rows();
    if (unused > 0 && n > 0) {
      char* end = static_cast<char*>(tensor.mutable_data_ptr()) + capacity * row_bytes;
      std::memset(end - unused * row_bytes, 0, unused * row_bytes);
    }
    return tensor;
  }

  void check_features(const Tensor& tensor, const char* name, int64_t n, const Tensor& like) const {
    if (packed_) return check(tensor, name, {capacity, n}, like);
    check(tensor, name, {T, B, n}, like);
  }

 private:
  void count(const Tensor& batch_sizes, int64_t rows, int64_t batch) {
    STD_TORCH_CHECK(batch_sizes.dim() == 1 && batch_sizes.is_cpu() &&
                        batch_sizes.scalar_type() == ScalarType::Long,
                    "batch_sizes must be an int64 CPU tensor of one dimension");
    const int64_t* sizes = data<int64_t>(batch_sizes);
    const int64_t n = batch_sizes.size(0), stride = batch_sizes.stride(0);
    B = batch >= 0 ? batch : n > 0 ? sizes[0] : 0;
    capacity = rows;
    offsets_ = {0};
    int64_t before = B;
    for (T = 0; T < n && sizes[T * stride] > 0; ++T) {
      const int64_t size = sizes[T * stride];
      STD_TORCH_CHECK(size <= before, "batch_sizes must not grow, nor pass the batch of ", B,
                      ": got ", size, " after ", before);
      before = size;
      offsets_.push_back(offsets_.back() + size);
      STD_TORCH_CHECK(offsets_.back() <= capacity, "batch_sizes must add up to no more than the ",
                      capacity, " rows of input");
    }
    for (int64_t t = T; t < n; ++t) {
      STD_TORCH_CHECK(sizes[t * stride] == 0,
                      "batch_sizes must not be negative, nor follow a zero: got ",
                      sizes[t * stride]);
    }
    if (before == B && T > 0) offsets_.clear();  // all rows at all times
  }

  bool packed_;
  std::vector<int64_t> offsets_;
};

}  // namespace fastrnn
