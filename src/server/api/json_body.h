// JSON that a client sent, read under bounds.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "server/api/error_json.h"

namespace spate::api {

// Members of objects keep their order: templates print tools in it.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 100;                  // arrays and objects within one another
  size_t max_members = 4096;            // of an object: finding one takes time in proportion to them
  size_t max_values = size_t{4} << 20;  // altogether; each takes 16 bytes and more
};

// The object that a body holds. Error 400 with the reason and the byte: no UTF-8, no JSON, no object, a number that no
// double holds, a member named twice, or beyond a limit. Takes time in proportion to the body.
ApiResult<Json> parse_body(std::string_view body, const JsonLimits& limits = {});

}  // namespace spate::api
