// JSON that a client sent, read under bounds.
#pragma once

#include <string_view>

#include "chat/json_reader.h"
#include "server/api/error_json.h"

namespace spate::api {

using chat::Json;
using chat::JsonLimits;

// The object that a body holds. Error 400, invalid_json, as of chat::read_json(), or because it is no object.
ApiResult<Json> parse_body(std::string_view body, const JsonLimits& limits = {});

}  // namespace spate::api
