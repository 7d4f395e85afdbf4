// What the processor and the operating system let a kernel use.
#pragma once

#include <string_view>

#include "base/error.h"

namespace spate {

// Instruction-set levels that kernels are compiled for; each includes the ones before it.
enum class Isa {
  kPortable,  // C++ alone
  kAvx2,      // AVX2, FMA, F16C
  kAvx512,    // AVX-512 F, BW, VL, DQ and VNNI
  kAmx,       // AMX tiles of int8 and bfloat16, permission granted by the kernel, AVX-512 VBMI and BF16, beside kAvx512
};
inline constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

std::string_view isa_name(Isa isa);

// Asks the processor (CPUID) and, for AMX, the kernel (arch_prctl ARCH_REQ_XCOMP_PERM; granted for the whole process).
bool isa_supported(Isa isa);

// The highest level supported here.
Isa best_isa();

// By name ("avx2"); an empty name gives best_isa(). An unknown or unsupported name is an Error that lists those
// supported.
Result<Isa> isa_from_name(std::string_view name);

// Physical cores that this process may use, by its affinity mask and its control group's share of time; at least 1.
int physical_cores();

}  // namespace spate
