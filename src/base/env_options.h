// The one place that reads environment variables. Each of spate's own has a command-line option that wins over it.
#pragma once

#include <string>

namespace spate {

struct EnvOptions {
  std::string isa;        // SPATE_ISA: portable | avx2 | avx512 | amx; empty picks the best the processor has
  std::string log_level;  // SPATE_LOG: debug | info | warn | error; empty means warn
  std::string
      test_data;        // SPATE_TEST_DATA: folder of the shared test data; empty means ../shared beside the source tree
  std::string api_key;  // SPATE_API_KEY: a key that clients of `spate serve` must show, where --api-key gives none
  bool ci = false;      // CI=true: absent test data is a failure, not a skip
  std::string term;     // TERM: the terminal's type; empty or "dumb": a terminal that can only print
  std::string home;     // HOME
  std::string state_home;  // XDG_STATE_HOME: where programs keep what they remember; empty means ~/.local/state
};

// Read once, at the first call.
const EnvOptions& env_options();

}  // namespace spate
