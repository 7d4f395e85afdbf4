// JSON from outside, read under bounds and in a time in proportion to its length.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace spate::chat {

// Members of objects keep their order: templates print them in it.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 100;                  // arrays and objects within one another
  size_t max_members = 4096;            // of an object: finding one takes time in proportion to them
  size_t max_values = size_t{4} << 20;  // altogether; each takes 16 bytes and more
};

struct JsonProblem {
  std::string what;  // "is not JSON from byte 7 on": to follow what the text is called
  std::string
      path;  // "messages[2].content": the value that it is about; empty for the whole, or where there is no JSON
};

// Fills `value`; nothing: it is there. Else it is no JSON, no UTF-8, a number that no double holds, a member named
// twice, or beyond a limit.
std::optional<JsonProblem> read_json(std::string_view text, const JsonLimits& limits, Json& value);

}  // namespace spate::chat
