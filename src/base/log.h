// Logging to stderr through spdlog. Levels: debug (off by default), info, warn, error. stdout belongs to a command's
// result.
#pragma once

#include <spdlog/spdlog.h>

namespace spate {

namespace log = spdlog;

}  // namespace spate
