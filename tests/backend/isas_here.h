// The instruction sets that a test program can run. Tests are made for these alone; isas_test.cc says, as one visible
// skip, which ones this processor left out.
#pragma once

#include <vector>

#include "base/cpu_features.h"

namespace spate::testing {

inline std::vector<Isa> isas_here() {
  std::vector<Isa> isas;
  for (Isa isa : kAllIsas)
    if (isa_supported(isa)) isas.push_back(isa);
  return isas;
}

}  // namespace spate::testing
