// JSON as values of a template.
#pragma once

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jinja/value.h"

namespace spate::jinja {

// Every string, keys included, has the given origin; objects keep the order of their keys. Error kUsage: nested deeper
// than kMaxInputDepth. An integer beyond 64 bits with sign becomes a float.
Result<Value> value_from_json(const nlohmann::ordered_json& json, Origin origin = Origin::kRequest);

}  // namespace spate::jinja
