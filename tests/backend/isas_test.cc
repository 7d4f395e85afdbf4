#include <gtest/gtest.h>

#include "backend/isas_here.h"

namespace spate::testing {
namespace {

TEST(Isas, EveryKernelTest_RunsOnThisProcessor) {
  std::string absent;
  for (Isa isa : kAllIsas)
    if (!isa_supported(isa)) absent += (absent.empty() ? "" : ", ") + std::string(isa_name(isa));
  if (!absent.empty())
    GTEST_SKIP() << "this processor has no " << absent << ": their kernels were tested by emulation at most";
}

}  // namespace
}  // namespace spate::testing
