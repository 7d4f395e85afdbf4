// Which instruction sets the linear tests can run: those of this processor (linear_isas_native.cc), or those whose
// instructions the test brings along (linear_isas_emulated.cc).
#pragma once

#include <vector>

#include "base/cpu_features.h"

namespace spate::testing {

bool can_run(Isa isa);

inline std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas;
  for (Isa isa : kAllIsas)
    if (can_run(isa)) isas.push_back(isa);
  return isas;
}

}  // namespace spate::testing
