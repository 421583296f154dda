// The tables of all dtypes that every instruction set has.
#pragma once

#include "kernels.inl"

namespace fastrnn {
namespace {

constexpr Kernels kKernels = {
    kIsaName,    make_table<float>(),         make_table<double>(),           nullptr,
    fingerprint, {widen<Bf16>, narrow<Bf16>}, {widen<Half16>, narrow<Half16>}};

}  // namespace
}  // namespace fastrnn
