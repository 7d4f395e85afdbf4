#include "server/api/error_json.h"

#include <fmt/core.h>

#include "server/api/json_text.h"

namespace spate::api {
namespace {

std::string_view type_of(int status) {
  switch (status) {
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

ApiError of_status(int status, std::string message, std::string code) {
  return {
      .status = status, .message = std::move(message), .type = std::string(type_of(status)), .code = std::move(code)};
}

std::string text_or_null(const std::optional<std::string>& text) {
  return text ? json_text(*text) : "null";
}

}  // namespace

ApiError ApiError::invalid(std::string param, std::string message, std::string code) {
  return {.message = std::move(message), .param = std::move(param), .code = std::move(code)};
}

ApiError ApiError::invalid(std::string message) {
  return {.message = std::move(message)};
}

ApiError ApiError::not_found(std::string message, std::string code) {
  return of_status(404, std::move(message), std::move(code));
}

ApiError ApiError::unavailable(std::string message) {
  ApiError error = of_status(503, std::move(message), "unavailable");
  error.retry_after_seconds = 1;
  return error;
}

ApiError api_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kUsage:
    case ErrorCode::kUnsupported:
    case ErrorCode::kOutOfResources:
      return ApiError::invalid(error.message);
    case ErrorCode::kBusy: {
      ApiError busy = of_status(429, error.message, "rate_limit_exceeded");
      busy.retry_after_seconds = 1;
      return busy;
    }
    case ErrorCode::kInterrupted:
      return ApiError::unavailable(error.message);
    case ErrorCode::kIo:
    case ErrorCode::kBadFile:  // a path is none of a client's business
      return of_status(500, "the server cannot read its model any more; its log says why", "internal_error");
    case ErrorCode::kBackend:
      break;
  }
  return of_status(500, error.message, "internal_error");
}

std::string error_json(const ApiError& error) {
  return fmt::format(R"({{"error":{{"message":{},"type":{},"param":{},"code":{}}}}})", json_text(error.message),
                     json_text(error.type), text_or_null(error.param), text_or_null(error.code));
}

std::string error_json(int status, std::string_view message, std::string_view code) {
  return error_json(of_status(status, std::string(message), std::string(code)));
}

}  // namespace spate::api
