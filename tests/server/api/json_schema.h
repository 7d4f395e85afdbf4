// As much of JSON Schema (2020-12) as the OpenAPI description uses.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace spate::testing {

// What is wrong with the value, by its paths; empty where the schema allows it. references are resolved in root. A
// keyword that is not known here is an error too, so that nothing goes unchecked.
std::vector<std::string> schema_errors(const nlohmann::ordered_json& root, const nlohmann::ordered_json& schema,
                                       const nlohmann::ordered_json& value, const std::string& path = "$");

}  // namespace spate::testing
