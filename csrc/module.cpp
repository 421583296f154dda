// The Python module fastrnn._C: loading it registers the ops (ops.cpp); its functions tell about
// the build and the CPU, and let tests reach what no op shows.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "cpu/machine.h"
#include "cpu/plan.h"
#include "cuda/plan.h"
#include "layer.h"

namespace fastrnn {
namespace {

namespace py = pybind11;

std::map<std::string, std::string> build_info() {
  return {
      {"torch", FASTRNN_TORCH_VERSION}, {"compiler", __VERSION__}, {"cuda", FASTRNN_CUDA_VERSION}};
}

std::vector<std::string> cuda_archs() {
  std::vector<std::string> archs;
  for (const int arch : std::initializer_list<int>{FASTRNN_CUDA_ARCHS}) {
    archs.push_back(std::to_string(arch));
  }
  return archs;
}

// sigmoid or tanh of every element, by the vector code of the instruction set in use.
template <class T>
py::array_t<T> activation(const std::string& name, const py::array_t<T, py::array::c_style>& x) {
  const KernelTable<T>& kernels = current_kernels().table<T>();
  if (name != "sigmoid" && name != "tanh") {
    throw py::value_error("activation must be 'sigmoid' or 'tanh', got '" + name + "'");
  }
  py::array_t<T> y(x.size());
  (name == "tanh" ? kernels.tanh : kernels.sigmoid)(x.data(), y.mutable_data(), x.size());
  return y;
}

// The elements of x, bits of E, as the vector code of the instruction set in use widens them.
template <class E>
py::array_t<float> widened(const py::array_t<uint16_t, py::array::c_style>& x) {
  py::array_t<float> y(x.size());
  const E* from = reinterpret_cast<const E*>(x.data());
  current_kernels().conversion<E>().widen(from, x.size(), 1, x.size(), y.mutable_data());
  return y;
}

// The reverse.
template <class E>
py::array_t<uint16_t> narrowed(const py::array_t<float, py::array::c_style>& x) {
  py::array_t<uint16_t> y(x.size());
  E* to = reinterpret_cast<E*>(y.mutable_data());
  current_kernels().conversion<E>().narrow(x.data(), x.size(), to);
  return y;
}

bool multiplies_bfloat16() { return current_kernels().bf16_products != nullptr; }

// Of several short runs the best: the others were interrupted.
double fma_rate(bool bfloat16) {
  if (bfloat16 && !multiplies_bfloat16()) {
    throw py::value_error(current_isa() + " has no products of bfloat16");
  }
  const py::gil_scoped_release released;
  const Kernels& kernels = current_kernels();
  const auto loop = bfloat16 ? kernels.bf16_products->fma_loop : kernels.f32.fma_loop;
  double best = 0;
  for (int run = 0; run < 20; ++run) {
    float value = 0.5f;
    const auto begin = std::chrono::steady_clock::now();
    const int64_t done = loop(100000, &value);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    best = std::max(best, done / seconds.count());
  }
  return best;
}

std::map<std::string, int64_t> plan(int64_t mode, int64_t T, int64_t B, int64_t I, int64_t H,
                                    int64_t element_bytes, int64_t vector_bytes, int64_t l2_bytes,
                                    int64_t threads, bool bfloat16_weights, int64_t features,
                                    int64_t vocabulary, bool keeps, bool masks,
                                    bool beside_others) {
  if (mode < 0 || mode >= kModes) throw py::value_error("mode must be 0 to 3");
  const Plan plan = plan_layer(static_cast<Mode>(mode), {T, B, I, H}, features > 0 ? features : H,
                               element_bytes, {vector_bytes, l2_bytes, threads}, bfloat16_weights,
                               vocabulary, keeps, masks, beside_others);
  return {
      {"single_step", plan.single_step},
      {"unit_parts", plan.unit_parts},
      {"projected_steps", plan.projected_steps},
      {"projects_ahead", plan.projects_ahead},
      {"in_place", plan.in_place},
      {"rows_per_vector", plan.rows_per_vector},
      {"vectors_per_gate", plan.vectors_per_gate},
      {"bfloat16_weights", plan.bfloat16_weights},
      {"hidden_panel", plan.hidden_panel},
      {"unit_panel", plan.unit_panel},
      {"input_panel", plan.input_panel},
      {"row_block", plan.row_block},
      {"rows_per_thread", plan.rows_per_thread},
      {"backward_steps", plan.backward_steps},
      {"whole_table", plan.whole_table},
  };
}

int64_t at_once(int64_t mode, int64_t T, int64_t B, int64_t H, int64_t layers,
                int64_t element_bytes, int64_t vector_bytes, int64_t l2_bytes, int64_t threads) {
  if (mode < 0 || mode >= kModes) throw py::value_error("mode must be 0 to 3");
  return layers_at_once(static_cast<Mode>(mode), {T, B, H, H}, layers, element_bytes,
                        {vector_bytes, l2_bytes, threads});
}

py::dict cuda_plan(int64_t mode, int element_bytes, bool backward, int64_t T, int64_t B, int64_t H,
                   int multiprocessors, int shared_bytes, int compute_capability) {
  if (mode < 0 || mode >= kModes) throw py::value_error("mode must be 0 to 3");
  const cuda::Plan plan =
      cuda::make_plan({static_cast<Mode>(mode), element_bytes, backward, T, B, H},
                      {multiprocessors, shared_bytes, compute_capability});
  const char* const scopes[] = {"block", "grid", "launch"};
  const char* const lanes[] = {"tile", "depth"};
  py::dict result;
  result["scope"] = scopes[static_cast<int>(plan.scope)];
  result["lanes"] = lanes[static_cast<int>(plan.lanes)];
  result["rows"] = plan.rows;
  result["units"] = plan.units;
  result["warps"] = plan.warps();
  result["depth_chunk"] = plan.depth_chunk;
  result["row_blocks"] = plan.row_blocks;
  result["unit_blocks"] = plan.unit_blocks;
  result["shared_bytes"] = plan.shared_bytes;
  result["step_cycles"] = plan.step_cycles;
  result["reason"] = cuda::reason(plan);
  return result;
}

std::map<std::string, int64_t> machine() {
  const Machine machine = current_machine();
  return {{"vector_bytes", machine.vector_bytes},
          {"l2_bytes", machine.l2_bytes},
          {"threads", machine.threads}};
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Kernels of fastrnn: registers the ops fastrnn::_layer_*; facts about build and CPU.";
  m.def("build_info", &build_info, "torch, compiler and CUDA toolkit of the build.");
  m.def("cuda_archs", &cuda_archs,
        "GPU architectures that there are kernels for, as \"80\"; none where built without CUDA.");
  m.def("cpu_isa", &current_isa, "The instruction set in use.");
  m.def("cpu_isas", &available_isas, "Those of this build and machine, the narrowest first.");
  m.def("set_cpu_isa", &set_isa, py::arg("name"), "Use another of them, for the whole process.");
  m.def("machine", &machine, "What plans depend on beside the shape, as plan takes it.");
  m.def(
      "multiplies_bfloat16", &multiplies_bfloat16,
      "Whether the instruction set in use has products of bfloat16, and bfloat16 layers use them.");
  m.def("fma_rate", &fma_rate, py::arg("bfloat16") = false,
        "Operations per second of float32 multiply-adds on registers, on the calling thread; or of "
        "products of bfloat16 that are added to float32.");
  m.def("plan", &plan, py::arg("mode"), py::arg("T"), py::arg("B"), py::arg("I"), py::arg("H"),
        py::arg("element_bytes"), py::arg("vector_bytes"), py::arg("l2_bytes"), py::arg("threads"),
        py::arg("bfloat16_weights") = false, py::arg("features") = 0, py::arg("vocabulary") = 0,
        py::arg("keeps") = false, py::arg("masks") = false, py::arg("beside_others") = false,
        "How a layer of this shape would be computed on such a machine.");
  m.def(
      "layers_at_once", &at_once, py::arg("mode"), py::arg("T"), py::arg("B"), py::arg("H"),
      py::arg("layers"), py::arg("element_bytes"), py::arg("vector_bytes"), py::arg("l2_bytes"),
      py::arg("threads"),
      "Threads that run layers of a stack at the same time on such a machine, without gradients.");
  m.def("cuda_plan", &cuda_plan, py::arg("mode"), py::arg("element_bytes"), py::arg("backward"),
        py::arg("T"), py::arg("B"), py::arg("H"), py::arg("multiprocessors"),
        py::arg("shared_bytes"), py::arg("compute_capability"),
        "How the recurrence of a layer would be spread over such a GPU; its cycles are modelled.");
  m.def("activation", &activation<float>, py::arg("name"), py::arg("x").noconvert(),
        "sigmoid or tanh by the vector code in use.");
  m.def("activation", &activation<double>, py::arg("name"), py::arg("x").noconvert());
  m.def("widen_bfloat16", &widened<Bf16>, py::arg("bits").noconvert(),
        "float32 of the bits of bfloat16, by the vector code in use.");
  m.def("widen_float16", &widened<Half16>, py::arg("bits").noconvert(), "The same of float16.");
  m.def("narrow_bfloat16", &narrowed<Bf16>, py::arg("x").noconvert(),
        "The bits of float32 rounded to bfloat16, by the vector code in use.");
  m.def("narrow_float16", &narrowed<Half16>, py::arg("x").noconvert(), "The same to float16.");
}

}  // namespace fastrnn
