// Runs the kernels on one small random layer, forward and backward, with a plan of the caller's
// choice, and compares with plain loops in double. No torch, so that sanitizers see only kernels.
//
// Arguments: block|grid|launch lstm|gru|relu|tanh tile|depth even|lengths|reverse schedule seed
// preemption read_only. Exits with 0, or 1 for a wrong result, 2 for wrong arguments, 3 for an
// error of the simulator; stderr says which. Arrays are allocations of their own of the very size,
// and results are NaN before.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "../../csrc/cells.h"
#include "../../csrc/cuda/launch.h"
#include "../../csrc/cuda/number.cuh"

extern "C" {
const char* cuda_sim_error();
void cuda_sim_check_read_only(int on);
int cuda_sim_schedule(const char* name, uint64_t seed, double preemption, unsigned resident);
}

namespace fastrnn::cuda {
namespace {

using E = FASTRNN_ELEMENT;
using W = Wide<E>;
using V = Number<double>;
using Values = std::vector<double>;

// Of values of unit scale: roundings of E in each step.
constexpr double kTolerance = sizeof(E) == 2 ? 1e-2 : 1e-5;

template <class T>
std::vector<T> as(const Values& values) {
  std::vector<T> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) narrow(static_cast<W>(values[i]), result[i]);
  return result;
}

struct Case {
  Mode mode;
  Scope scope;
  Lanes lanes;
  bool reverse, even;
  std::mt19937 random;
  int64_t T = 3, B, H, G, S, saved;
  std::vector<int64_t> offsets;
  Values hx, cx, weight, bias_ih, bias_hh, projected, grad_output, grad_h, grad_c;
  // Of the reference, as are grad_h and grad_c after it.
  Values output, h_n, c_n, grad_sums, h_before, c_before;
  std::vector<std::vector<V>> kept;

  // Multiples of 1/256 in [-1, 1], which all dtypes hold.
  Values draw(int64_t n) {
    Values values(n);
    for (double& value : values) value = static_cast<int>(random() % 513) / 256.0 - 1;
    return values;
  }

  void fill() {
    // More than one row block, tails of tiles, and rows of weights without alignment.
    B = lanes == Lanes::kTile ? 18 : 3, H = lanes == Lanes::kTile ? 20 : 18;
    G = gates(mode), S = sums(mode), saved = reserve_per_unit(mode);
    offsets = {0, B, 2 * B - (even ? 0 : 1), 3 * B - (even ? 0 : 3)};
    const int64_t rows = offsets[T];
    hx = draw(B * H), cx = draw(B * H), weight = draw(G * H * H);
    for (double& value : weight) value /= 4;
    bias_ih = draw(G * H), bias_hh = draw(G * H), projected = draw(rows * G * H);
    grad_output = draw(rows * H), grad_h = draw(B * H), grad_c = draw(B * H);
  }

  Values transposed_weight() const {
    Values transposed(weight.size());
    for (int64_t k = 0; k < G * H; ++k) {
      for (int64_t u = 0; u < H; ++u) transposed[u * G * H + k] = weight[k * H + u];
    }
    return transposed;
  }

  Timeline timeline() const { return {T, B, reverse, even ? nullptr : offsets.data()}; }

  Plan plan(bool backward) const {
    const bool tile = lanes == Lanes::kTile;
    const TileSize size = tile_size(lanes);
    Plan plan = {scope, lanes, scope == Scope::kLaunch && !tile ? 2 * size.rows : size.rows};
    plan.units = tile && scope == Scope::kLaunch ? 16 : 8;
    if (scope == Scope::kBlock) {
      plan.units = static_cast<int>((H + size.units - 1) / size.units * size.units);
    }
    const int64_t depth = backward ? G * H : H;
    plan.depth_chunk = static_cast<int>(scope == Scope::kBlock ? depth : 16);
    plan.row_blocks = (B + plan.rows - 1) / plan.rows;
    plan.unit_blocks = (H + plan.units - 1) / plan.units;
    const int64_t left = plan.rows * padded_bytes(plan.depth_chunk * sizeof(E));
    const int64_t columns = scope == Scope::kLaunch ? plan.depth_chunk : depth;
    plan.shared_bytes = left * (scope == Scope::kBlock ? 2 : 1) +
                        (backward ? 1 : G) * plan.units * padded_bytes(columns * sizeof(E));
    return plan;
  }
};

template <class Cell>
void refer_forward(Case& c) {
  const auto [T, B, H, G, S] = std::array{c.T, c.B, c.H, c.G, c.S};
  const Timeline steps = c.timeline();
  const int64_t rows = c.offsets[T];
  c.kept.resize(rows * H), c.output.resize(rows * H);
  c.h_before.resize(rows * H), c.c_before.resize(rows * H);
  Values h = c.hx, cell = c.cx;
  for (int64_t i = 0; i < T; ++i) {
    const int64_t t = steps.time(i);
    for (int64_t row = 0; row < steps.rows(t); ++row) {
      const int64_t place = steps.first_row(t) + row;
      const Values before(&h[row * H], &h[row * H] + H);
      for (int64_t u = 0; u < H; ++u) {
        std::vector<V> sums(S, V(0)), saved(c.saved + 1, V(0));
        for (int64_t g = 0; g < G; ++g) {
          const int64_t gate = input_gate(c.mode, g) * H + u;
          sums[g].value += c.projected[place * G * H + gate] + c.bias_ih[gate];
          double& sum = sums[S - G + g].value += c.bias_hh[g * H + u];
          for (int64_t k = 0; k < H; ++k) sum += c.weight[(g * H + u) * H + k] * before[k];
        }
        c.h_before[place * H + u] = before[u], c.c_before[place * H + u] = cell[row * H + u];
        V state[2] = {before[u], cell[row * H + u]};
        Cell::forward(sums.data(), state, saved.data());
        c.output[place * H + u] = h[row * H + u] = state[0].value;
        cell[row * H + u] = state[1].value;
        c.kept[place * H + u] = saved;
      }
    }
  }
  c.h_n = h, c.c_n = cell;
}

template <class Cell>
void refer_backward(Case& c) {
  const auto [T, B, H, G, S] = std::array{c.T, c.B, c.H, c.G, c.S};
  const Timeline steps = c.timeline();
  c.grad_sums.resize(c.offsets[T] * S * H);
  for (int64_t i = T - 1; i >= 0; --i) {
    const int64_t t = steps.time(i);
    for (int64_t row = 0; row < steps.rows(t); ++row) {
      const int64_t place = steps.first_row(t) + row;
      double* grad_sums = &c.grad_sums[place * S * H];
      for (int64_t u = 0; u < H; ++u) {
        const int64_t at = place * H + u, state = row * H + u;
        V before[2] = {c.h_before[at], c.c_before[at]}, sums[4];
        V grad[2] = {c.grad_h[state] + c.grad_output[at], c.grad_c[state]};
        Cell::backward(c.kept[at].data(), before, V(c.output[at]), grad, sums);
        c.grad_h[state] = grad[0].value, c.grad_c[state] = grad[1].value;
        for (int64_t s = 0; s < S; ++s) grad_sums[s * H + u] = sums[s].value;
      }
      for (int64_t u = 0; u < H; ++u) {
        for (int64_t k = 0; k < G * H; ++k) {
          c.grad_h[row * H + u] += c.weight[k * H + u] * grad_sums[(S - G) * H + k];
        }
      }
    }
  }
}

template <class Cell>
void refer(Case& c) {
  refer_forward<Cell>(c);
  refer_backward<Cell>(c);
}

void refer(Case& c) {
  switch (c.mode) {
    case Mode::kLstm:
      return refer<Lstm>(c);
    case Mode::kGru:
      return refer<Gru>(c);
    case Mode::kRnnRelu:
      return refer<Elman<Relu>>(c);
    default:
      return refer<Elman<Tanh>>(c);
  }
}

template <class T>
bool differs(const char* what, const std::vector<T>& got, const Values& want) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double value = widened(got[i]);
    if (std::abs(value - want[i]) <= kTolerance * (1 + std::abs(want[i]))) continue;
    fprintf(stderr, "%s[%zu] is %g, not %g\n", what, i, value, want[i]);
    return true;
  }
  return false;
}

bool failed(cudaError_t error) {
  if (error != cudaSuccess) fprintf(stderr, "%s\n", cuda_sim_error());
  return error != cudaSuccess;
}

int compare(Case& c) {
  const bool lstm = has_cell_state(c.mode);
  const int64_t rows = c.offsets[c.T], H = c.H;
  const auto hx = as<E>(c.hx), cx = as<E>(c.cx), weight = as<E>(c.weight),
             bias_ih = as<E>(c.bias_ih), bias_hh = as<E>(c.bias_hh), projected = as<E>(c.projected),
             grad_output = as<E>(c.grad_output);
  const auto weight_t = as<E>(c.transposed_weight());
  const auto unset = [&](int64_t n) { return as<E>(Values(n, NAN)); };
  auto output = unset(rows * H), h_n = unset(c.B * H), reserve = unset(rows * c.saved * H),
       grad_sums = unset(rows * c.S * H);
  auto cell = as<W>(c.cx), grad_h = as<W>(c.grad_h), grad_c = as<W>(c.grad_c);
  refer(c);
  const Forward<E> forward = {H,
                              c.timeline(),
                              projected.data(),
                              hx.data(),
                              weight.data(),
                              bias_ih.data(),
                              bias_hh.data(),
                              output.data(),
                              h_n.data(),
                              lstm ? cell.data() : nullptr,
                              reserve.data()};
  if (failed(launch_forward(c.mode, forward, c.plan(false), nullptr))) return 3;
  if (differs("output", output, c.output) || differs("h_n", h_n, c.h_n)) return 1;
  if (lstm && differs("c_n", cell, c.c_n)) return 1;
  const Sequence<const E> gradients = {grad_output.data(), c.B * H, H,
                                       c.even ? nullptr : c.offsets.data()};
  const Backward<E> backward = {H,
                                c.timeline(),
                                gradients,
                                hx.data(),
                                lstm ? cx.data() : nullptr,
                                weight_t.data(),
                                output.data(),
                                reserve.data(),
                                grad_h.data(),
                                lstm ? grad_c.data() : nullptr,
                                grad_sums.data()};
  if (failed(launch_backward(c.mode, backward, c.plan(true), true, nullptr))) return 3;
  if (differs("grad_sums", grad_sums, c.grad_sums) || differs("grad_h", grad_h, c.grad_h)) return 1;
  return lstm && differs("grad_c", grad_c, c.grad_c) ? 1 : 0;
}

}  // namespace
}  // namespace fastrnn::cuda

extern "C" int run_case(const char* arguments) {
  using namespace fastrnn;
  using namespace fastrnn::cuda;
  std::string scope, mode, lanes, lengths, schedule;
  unsigned seed = 0, read_only = 0;
  double preemption = 0;
  std::istringstream words(arguments);
  words >> scope >> mode >> lanes >> lengths >> schedule >> seed >> preemption >> read_only;
  if (!words || cuda_sim_schedule(schedule.c_str(), seed, preemption, 1 + seed % 3)) {
    fprintf(stderr, "driver.cpp says what arguments it takes, not: %s\n", arguments);
    return 2;
  }
  cuda_sim_check_read_only(static_cast<int>(read_only));
  Case c = {};
  c.mode = mode == "lstm"   ? Mode::kLstm
           : mode == "gru"  ? Mode::kGru
           : mode == "relu" ? Mode::kRnnRelu
                            : Mode::kRnnTanh;
  c.scope = scope == "block" ? Scope::kBlock : scope == "grid" ? Scope::kGrid : Scope::kLaunch;
  c.lanes = lanes == "tile" ? Lanes::kTile : Lanes::kDepth;
  c.reverse = lengths == "reverse";
  c.even = lengths == "even";
  c.random.seed(seed);
  c.fill();
  return compare(c);
}

int main(int argc, char** argv) {
  std::string words;
  for (int i = 1; i < argc; ++i) words += std::string(argv[i]) + " ";
  return run_case(words.c_str());
}
