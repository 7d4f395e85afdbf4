// The emulation (emulated/immintrin.h) is itself AVX2 code, and AVX2's own kernels are what it is compared with.
#include "linear_isas.h"

namespace spate::testing {

bool can_run(Isa isa) {
  return isa_supported(Isa::kAvx2) && isa != Isa::kPortable;
}

}  // namespace spate::testing
