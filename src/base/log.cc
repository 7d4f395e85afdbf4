#include "base/log.h"

#include <memory>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

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
  logger().log(kLevels[static_cast<int>(level)].second, spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace spate::log
