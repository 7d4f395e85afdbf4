#include "linear_isas.h"

namespace spate::testing {

bool can_run(Isa isa) {
  return isa_supported(isa);
}

}  // namespace spate::testing
