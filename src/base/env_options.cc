#include "base/env_options.h"

#include <cstdlib>

namespace spate {

namespace {

std::string text(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

const EnvOptions& env_options() {
  static const EnvOptions options{.isa = text("SPATE_ISA"),
                                  .log_level = text("SPATE_LOG"),
                                  .test_data = text("SPATE_TEST_DATA"),
                                  .api_key = text("SPATE_API_KEY"),
                                  .ci = text("CI") == "true",
                                  .term = text("TERM"),
                                  .home = text("HOME"),
                                  .state_home = text("XDG_STATE_HOME")};
  return options;
}

}  // namespace spate
