#include "machine.h"

#include <torch/csrc/stable/ops.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace fastrnn {
namespace {

int64_t vector_bytes(const Kernels& kernels) { return kernels.f32.width * sizeof(float); }

#if defined(__x86_64__) && defined(__GNUC__)
// __builtin_cpu_supports of clang 14 does not know the name.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

// AVX-512 with products of bfloat16, and what it needs to load and store that.
bool has_avx512_bf16() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bf16");
}

const Kernels& with_bfloat16_products() {
  static const Kernels kernels = [] {
    Kernels wider = *kAvx512Kernels;
    wider.isa = "avx512_bf16";
    wider.bf16_products = kAvx512Bf16Products;
    return wider;
  }();
  return kernels;
}
#endif

std::vector<const Kernels*> find_kernels() {
  std::vector<const Kernels*> found = {kBaselineKernels};
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (kAvx2Kernels && avx2) found.push_back(kAvx2Kernels);
  if (!kAvx512Kernels || !avx2 || !__builtin_cpu_supports("avx512f")) return found;
  found.push_back(kAvx512Kernels);
  if (kAvx512Bf16Products && has_avx512_bf16()) found.push_back(&with_bfloat16_products());
#endif
  return found;
}

const std::vector<const Kernels*>& available_kernels() {
  static const std::vector<const Kernels*> kernels = find_kernels();
  return kernels;
}

const Kernels& kernels_named(const std::string& name) {
  std::string names;
  for (const Kernels* kernels : available_kernels()) {
    if (name == kernels->isa) return *kernels;
    names += std::string(names.empty() ? "" : ", ") + kernels->isa;
  }
  throw std::invalid_argument("fastrnn: unknown or unsupported instruction set '" + name +
                              "' (FASTRNN_CPU_ISA); this machine has: " + names);
}

const Kernels* chosen_at_start() {
  const char* name = std::getenv("FASTRNN_CPU_ISA");
  return name && *name ? &kernels_named(name) : available_kernels().back();
}

std::atomic<const Kernels*>& choice() {
  static std::atomic<const Kernels*> kernels{chosen_at_start()};
  return kernels;
}

int64_t find_l2_bytes() {
  const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? bytes : 512 * 1024;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* kernels : available_kernels()) names.push_back(kernels->isa);
  return names;
}

const Kernels& current_kernels() { return *choice().load(); }

std::string current_isa() { return current_kernels().isa; }

void set_isa(const std::string& name) { choice() = &kernels_named(name); }

Machine current_machine() {
  static const int64_t l2_bytes = find_l2_bytes();
  return {vector_bytes(current_kernels()), l2_bytes, torch::stable::get_num_threads()};
}

}  // namespace fastrnn
