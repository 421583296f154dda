// Token ids as the ops get them.
#pragma once

#include "cpu/scratch.h"
#include "steps.h"
#include "tensors.h"

namespace fastrnn {

// What `ids` must be beside an embedding (vocabulary, I) or one-hot vectors of `like`'s dtype.
inline void check_ids(const Tensor& ids, const Tensor& like, int64_t vocabulary) {
  STD_TORCH_CHECK(is_ids(ids), "ids must be int32 or int64");
  STD_TORCH_CHECK(is_beside(ids, like), "ids must be on the device of the weights");
  STD_TORCH_CHECK(vocabulary > 0 && vocabulary <= INT32_MAX && ids.numel() <= INT32_MAX,
                  "there must be 1 to 2147483647 tokens, and no more ids, got ", vocabulary,
                  " and ", ids.numel());
  check_dtype(like);
  STD_TORCH_CHECK(like.element_size() >= 4, "with ids, weights must be float32 or float64");
}

// Ids (T, B), with batch_first (B, T), or of packed rows, time after time without gaps. Each is
// checked to be of [0, vocabulary).
class TokenIds {
 public:
  TokenIds(const Tensor& ids, const Steps& steps, int64_t vocabulary, bool batch_first = false)
      : ids_(steps.rows()) {
    if (ids.scalar_type() == ScalarType::Int) {
      read<int32_t>(ids, steps, vocabulary, batch_first);
    } else {
      read<int64_t>(ids, steps, vocabulary, batch_first);
    }
  }
  operator const int32_t*() const { return ids_; }

 private:
  template <class Id>
  void read(const Tensor& ids, const Steps& steps, int64_t vocabulary, bool batch_first) {
    const Timeline timeline = steps.timeline(false);
    const bool packed = ids.dim() == 1;
    const int64_t row_stride = ids.stride(packed || batch_first ? 0 : 1);
    int32_t* to = ids_;
    for (int64_t t = 0; t < timeline.T; ++t) {
      const int64_t step_stride = packed ? row_stride : ids.stride(batch_first ? 1 : 0);
      const Id* from = data<Id>(ids) + (packed ? timeline.first_row(t) : t) * step_stride;
      const int64_t rows = timeline.rows(t);
      bool wrong = false;  // one branch for all of them
      for (int64_t b = 0; b < rows; ++b) {
        const int64_t id = from[b * row_stride];
        wrong |= static_cast<uint64_t>(id) >= static_cast<uint64_t>(vocabulary);
        to[b] = static_cast<int32_t>(id);
      }
      for (int64_t b = 0; wrong && b < rows; ++b) {
        const int64_t id = from[b * row_stride];
        STD_TORCH_CHECK(0 <= id && id < vocabulary, "ids must be from 0 to ", vocabulary - 1,
                        ", got ", id, " for row ", b, " at step ", t);
      }
      to += rows;
    }
  }

  Scratch<int32_t> ids_;
};

}  // namespace fastrnn
