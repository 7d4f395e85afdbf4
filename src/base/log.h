// Logging to stderr. stdout belongs to a command's result. spdlog stands behind this and stays out of sight: its header
// takes seconds to compile.
#pragma once

#include <fmt/core.h>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace spate::log {

enum class Level { kDebug, kInfo, kWarn, kError };

// Sets up the log of the process: lines "spate: LEVEL: MESSAGE" on stderr, from the named level (debug, info, warn,
// error) up. Error (kUsage) for any other name.
Result<void> set_up(std::string_view level);

// Writes a line of that level. Until set_up() is called, warnings and errors are written. Any thread may call it.
void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace spate::log
