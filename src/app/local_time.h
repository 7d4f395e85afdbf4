#pragma once

#include <ctime>

namespace spate::app {

// The time now where this runs, for templates that ask.
inline std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

}  // namespace spate::app
