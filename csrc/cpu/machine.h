// What this CPU can do, and which kernels are in use.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "plan.h"

namespace fastrnn {

// Names of the instruction sets that this build and this CPU share, the narrowest first.
std::vector<std::string> available_isas();

// The instruction set in use: the widest available, or what FASTRNN_CPU_ISA names (read once).
// Throws std::invalid_argument when that names none of available_isas().
std::string current_isa();

// Replaces the choice for the whole process; throws like current_isa.
void set_isa(const std::string& name);

Machine current_machine();

// The kernels of the instruction set in use.
const Kernels& current_kernels();

}  // namespace fastrnn
