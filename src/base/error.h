// Error and Result<T>: how a failure caused by input (a file, an argument, a request, no memory) travels. A failure of
// spate's own logic is not an Error: it is a failed SPATE_CHECK (base/check.h).
#pragma once

#include <fmt/core.h>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace spate {

// What went wrong, as far as a caller may want to branch on it. The value is the process's exit code (README, "Exit
// codes").
enum class ErrorCode : int {
  kUsage = 2,           // the command line or a request is not acceptable as written
  kIo = 3,              // the operating system refused: no such file, permission, read or write error
  kBadFile = 4,         // a file was read but breaks its format
  kUnsupported = 5,     // valid input that this build cannot run: architecture, tensor type, tokenizer
  kOutOfResources = 6,  // memory, KV pages or context window too small for what was asked
  kBackend = 7,         // the device failed
  kInterrupted = 8,     // stopped by the user or by shutdown
  kBusy = 9,            // too much is waiting already: the same again later may succeed (a server's 429)
};

struct Error {
  ErrorCode code;
  std::string message;  // one line: what, where, what to do

  static Error usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }
  static Error io(std::string_view path, std::string_view what) {
    return {ErrorCode::kIo, fmt::format("{}: {}", path, what)};
  }
  static Error bad_file(std::string_view path, std::string_view what) {
    return {ErrorCode::kBadFile, fmt::format("{}: {}", path, what)};
  }
  static Error unsupported(std::string message) { return {ErrorCode::kUnsupported, std::move(message)}; }
  static Error out_of_resources(std::string message) { return {ErrorCode::kOutOfResources, std::move(message)}; }
  static Error backend(std::string message) { return {ErrorCode::kBackend, std::move(message)}; }
  static Error interrupted(std::string message) { return {ErrorCode::kInterrupted, std::move(message)}; }
  static Error busy(std::string message) { return {ErrorCode::kBusy, std::move(message)}; }
};

// Either a T or an error, which has a message. Reading the value of an error is our bug and ends the process.
template <typename T, typename E = Error>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(E error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    check_ok();
    return std::get<0>(state_);
  }
  const T& value() const& {
    check_ok();
    return std::get<0>(state_);
  }
  T&& value() && {
    check_ok();
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const E& error() const& {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::get<1>(state_);
  }
  E&& error() && {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::get<1>(std::move(state_));
  }

 private:
  void check_ok() const { SPATE_CHECK(ok(), "value() of an error: {}", std::get<1>(state_).message); }
  std::variant<T, E> state_;
};

template <typename E>
class [[nodiscard]] Result<void, E> {
 public:
  Result() = default;
  Result(E error) : error_(std::move(error)) {}
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const E& error() const& {
    SPATE_CHECK(!ok(), "error() of a value");
    return *error_;
  }
  E&& error() && {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::move(*error_);
  }

 private:
  std::optional<E> error_;
};

#define SPATE_CONCAT_(a, b) a##b
#define SPATE_CONCAT(a, b) SPATE_CONCAT_(a, b)

// SPATE_TRY(auto x, make_x()); declares x, or returns make_x()'s Error from the enclosing function.
#define SPATE_TRY(declaration, expression) \
  SPATE_TRY_IMPL_(SPATE_CONCAT(spate_result_, __LINE__), declaration, expression)
#define SPATE_TRY_IMPL_(result, declaration, expression) \
  auto result = (expression);                            \
  if (!result.ok()) return std::move(result).error();    \
  declaration = std::move(result).value()

// SPATE_TRY_VOID(validate()); returns validate()'s Error, if it is one.
#define SPATE_TRY_VOID(expression)                                            \
  do {                                                                        \
    auto spate_result_void = (expression);                                    \
    if (!spate_result_void.ok()) return std::move(spate_result_void).error(); \
  } while (false)

}  // namespace spate
