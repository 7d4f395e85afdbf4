// Errors as clients of the OpenAI API see them: a status, and {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <optional>
#include <string>
#include <string_view>

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
class [[nodiscard]] ApiResult : public Result<T, ApiError> {
 public:
  ApiResult() = default;  // of void
  using Result<T, ApiError>::Result;
  ApiResult(const Error& error) : Result<T, ApiError>(api_error(error)) {}
};

}  // namespace spate::api
