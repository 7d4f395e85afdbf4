#include "server/api/json_body.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/utf8.h"

namespace spate::api {
namespace {

ApiError no_json(std::string message) {
  ApiError error = ApiError::invalid(std::move(message));
  error.code = "invalid_json";
  return error;
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const DecodedUtf8 decoded = decode_utf8(text.substr(at));
    if (!decoded.valid) break;
    at += static_cast<size_t>(decoded.n_bytes);
  }
  return at;
}

}  // namespace

ApiResult<Json> parse_body(std::string_view body, const JsonLimits& limits) {
  if (body.empty()) return ApiError::invalid("the body is empty; it should be a JSON object");
  if (!is_valid_utf8(body))
    return no_json(fmt::format("the body is not UTF-8 from byte {} on", valid_utf8_prefix(body)));
  Json json;
  if (std::optional<chat::JsonProblem> problem = chat::read_json(body, limits, json)) {
    ApiError error = no_json("the body " + problem->what);
    if (!problem->path.empty()) error.param = std::move(problem->path);
    return error;
  }
  if (!json.is_object()) return ApiError::invalid("the body is JSON, but no object");
  return json;
}

}  // namespace spate::api
