// SPATE_CHECK: an invariant of spate's own code. It stays on in release builds; a failure prints where and why, and
// aborts. Never use it on input: a file or a request that breaks a rule is an Error (base/error.h).
#pragma once

#include <fmt/core.h>
#include <string>
#include <string_view>

namespace spate {

[[noreturn]] void check_failed(const char* file, int line, const char* condition, std::string_view message);

namespace internal {
inline std::string check_message() {
  return {};
}
template <typename... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace internal

}  // namespace spate

#define SPATE_CHECK(condition, ...)                                                                         \
  do {                                                                                                      \
    if (!(condition)) [[unlikely]]                                                                          \
      ::spate::check_failed(__FILE__, __LINE__, #condition, ::spate::internal::check_message(__VA_ARGS__)); \
  } while (false)
