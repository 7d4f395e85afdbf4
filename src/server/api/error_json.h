// Errors as clients of the OpenAI API see them: a status, and {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/error.h"

namespace spate::api {

struct ApiError {
  int status = 400;
  std::string message = {};  // one line: what, where, what to do
  std::string type = "invalid_request_error";
  std::optional<std::string> param = {};  // the path of the field at fault: "messages[2].content"
  std::optional<std::string> code = {};   // a word for programs: "context_length_exceeded"
  int retry_after_seconds = 0;            // above 0: the answer says when to try again

  // 400: a field of the request is not acceptable. code: as OpenAI has it where that has one.
  static ApiError invalid(std::string param, std::string message, std::string code = "invalid_value");
  // 400: the request as a whole is not acceptable.
  static ApiError invalid(std::string message);
  // 404
  static ApiError not_found(std::string message, std::string code);
  // 503: not now, but soon.
  static ApiError unavailable(std::string message);
};

// What a client is told of an error of the layers below: 400 for what the request asked, 429 for kBusy, 503 for
// kInterrupted, 500 for the rest.
ApiError api_error(const Error& error);

// The body of an error's answer, and the data of an error event. Any text is fine: what is no UTF-8 is replaced.
std::string error_json(const ApiError& error);

// The same for what is known by its status alone; the type follows from that.
std::string error_json(int status, std::string_view message, std::string_view code);

// Either a T or the error to answer with. Works with SPATE_TRY; a Result's Error becomes an ApiError.
template <typename T>
class [[nodiscard]] ApiResult {
 public:
  ApiResult(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  ApiResult(ApiError error) : state_(std::in_place_index<1>, std::move(error)) {}
  ApiResult(const Error& error) : ApiResult(api_error(error)) {}

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

  const ApiError& error() const& {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::get<1>(state_);
  }
  ApiError&& error() && {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::get<1>(std::move(state_));
  }

 private:
  void check_ok() const { SPATE_CHECK(ok(), "value() of an error: {}", std::get<1>(state_).message); }
  std::variant<T, ApiError> state_;
};

template <>
class [[nodiscard]] ApiResult<void> {
 public:
  ApiResult() = default;
  ApiResult(ApiError error) : error_(std::move(error)) {}
  ApiResult(const Error& error) : error_(api_error(error)) {}

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const ApiError& error() const& {
    SPATE_CHECK(!ok(), "error() of a value");
    return *error_;
  }
  ApiError&& error() && {
    SPATE_CHECK(!ok(), "error() of a value");
    return std::move(*error_);
  }

 private:
  std::optional<ApiError> error_;
};

}  // namespace spate::api
