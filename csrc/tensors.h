// Tensors as the ops see them: checks that guard memory, allocation, and the pointers that kernels
// take. Errors whose texts equal torch's come from Python.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string>

#include "fresh_pages.h"
#include "layer.h"

namespace fastrnn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::initializer_list<int64_t>;

inline std::string text(const int64_t* sizes, size_t n) {
  std::string out = "(";
  for (size_t i = 0; i < n; ++i) out += (i ? ", " : "") + std::to_string(sizes[i]);
  return out + ")";
}

inline bool is_beside(const Tensor& tensor, const Tensor& input) {
  if (tensor.is_cpu() || input.is_cpu()) return tensor.is_cpu() == input.is_cpu();
  return tensor.get_device_index() == input.get_device_index();
}

inline void check(const Tensor& tensor, const char* name, Sizes sizes, const Tensor& input) {
  const auto got = tensor.sizes();
  STD_TORCH_CHECK(got.size() == sizes.size() && std::equal(sizes.begin(), sizes.end(), got.begin()),
                  name, " must have shape ", text(sizes.begin(), sizes.size()), ", got ",
                  text(got.data(), got.size()));
  STD_TORCH_CHECK(is_beside(tensor, input) && tensor.scalar_type() == input.scalar_type(), name,
                  " must have the input's dtype and be on its device");
}

inline void check_on_cpu(const Tensor& input) {
  STD_TORCH_CHECK(input.is_cpu(), "input must be on the CPU");
}

// Whether an input holds token ids.
inline bool is_ids(const Tensor& input) {
  return input.scalar_type() == ScalarType::Long || input.scalar_type() == ScalarType::Int;
}

// torch's code of a dtype that kernels take, or of indices; a negative number for others.
inline int32_t dtype_code(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return aoti_torch_dtype_float32();
    case ScalarType::Double:
      return aoti_torch_dtype_float64();
    case ScalarType::BFloat16:
      return aoti_torch_dtype_bfloat16();
    case ScalarType::Half:
      return aoti_torch_dtype_float16();
    case ScalarType::Long:
      return aoti_torch_dtype_int64();
    case ScalarType::Int:
      return aoti_torch_dtype_int32();
    default:
      return -1;
  }
}

inline Tensor empty_strided(Sizes sizes, const int64_t* strides, ScalarType dtype) {
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides,
                                                         dtype_code(dtype),
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  const Tensor tensor(handle);
  ask_for_huge_pages(tensor.mutable_data_ptr(), tensor.numel() * tensor.element_size());
  return tensor;
}

inline Tensor empty(Sizes sizes, ScalarType dtype) {
  std::array<int64_t, 3> strides = {1, 1, 1};
  for (size_t i = sizes.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes.begin()[i];
  return empty_strided(sizes, strides.data(), dtype);
}

// The tensor itself where it is contiguous, else a contiguous copy.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline std::optional<Tensor> dense(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(dense(*tensor)) : std::nullopt;
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

template <class T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// A tensor whose last dimension, the features, is contiguous: itself, or a copy.
inline Tensor with_contiguous_features(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  return tensor.stride(last) == 1 || tensor.size(last) <= 1 ? tensor
                                                            : torch::stable::contiguous(tensor);
}

// Calls body(E{}) with the C++ type of a dtype that kernels take.
template <class Body>
void dispatch(ScalarType dtype, const Body& body) {
  switch (dtype) {
    case ScalarType::Double:
      return body(double{});
    case ScalarType::BFloat16:
      return body(Bf16{});
    case ScalarType::Half:
      return body(Half16{});
    default:
      return body(float{});
  }
}

inline Mode checked_mode(int64_t index) {
  STD_TORCH_CHECK(index >= 0 && index < kModes, "mode must be 0 to ", kModes - 1, ", got ", index);
  return static_cast<Mode>(index);
}

inline void check_dtype(const Tensor& input) {
  STD_TORCH_CHECK(!is_ids(input) && dtype_code(input.scalar_type()) >= 0,
                  "input must be float32, float64, bfloat16 or float16");
}

}  // namespace fastrnn
