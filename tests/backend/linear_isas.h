// Which instruction sets the linear tests can run: those of this processor (linear_isas_native.cc), or those whose
// instructions the test brings along (linear_isas_emulated.cc).
#pragma once

#include "base/cpu_features.h"

namespace spate::testing {

bool can_run(Isa isa);

}  // namespace spate::testing
