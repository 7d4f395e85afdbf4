// JSON text of values, as Python's json.dumps writes it.
#pragma once

#include <optional>

#include "jinja/builtins.h"
#include "jinja/value.h"

namespace spate::jinja {

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<Text> indent;  // of a level; none: all on one line
  Text item_separator = Text(", ", Origin::kRequest), key_separator = Text(": ", Origin::kRequest);
  bool sort_keys = false;
};
// From the arguments (ensure_ascii, indent, separators, sort_keys) of the filter.
JsonStyle json_style(const BoundArguments& arguments);

// Strings keep their origin, escapes and quotes included in so far as a string makes them; all other punctuation and
// every number counts as the request's. Fails for values that JSON has no form for.
Text to_json(Heap& heap, const Value& value, const JsonStyle& style);

}  // namespace spate::jinja
