#include "base/log.h"

#include <memory>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <string>

namespace spate::log {
namespace {

constexpr std::pair<std::string_view, spdlog::level::level_enum> kLevels[] = {{"debug", spdlog::level::debug},
                                                                              {"info", spdlog::level::info},
                                                                              {"warn", spdlog::level::warn},
                                                                              {"error", spdlog::level::err}};

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("spate", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("spate: %l: %v");
    made.set_level(spdlog::level::warn);
    return made;
  }();
  return instance;
}

// A message may quote the name of a file, which may be anything: it stays one line, and drives no terminal.
std::string on_one_line(std::string_view message) {
  std::string line;
  line.reserve(message.size());
  for (const char c : message) {
    if (static_cast<unsigned char>(c) >= ' ' && c != 0x7F)
      line += c;
    else
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return line;
}

}  // namespace

Result<void> set_up(std::string_view level) {
  for (const auto& [name, value] : kLevels) {
    if (name != level) continue;
    logger().set_level(value);
    return {};
  }
  return Error::usage(fmt::format("log level '{}' is none of debug, info, warn, error", level));
}

void write(Level level, std::string_view message) {
  const auto spdlog_level = kLevels[static_cast<int>(level)].second;
  if (logger().should_log(spdlog_level)) logger().log(spdlog_level, on_one_line(message));
}

}  // namespace spate::log
