#include "server/api/json_schema.h"

#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <string_view>

namespace spate::testing {
namespace {

using Json = nlohmann::ordered_json;
using Errors = std::vector<std::string>;

bool has_type(const Json& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  return false;
}

bool has_one_type(const Json& value, const Json& types) {
  if (types.is_string()) return has_type(value, types.get_ref<const std::string&>());
  return std::any_of(types.begin(), types.end(),
                     [&](const Json& type) { return has_type(value, type.get_ref<const std::string&>()); });
}

class Check {
 public:
  Check(const Json& root, const Json& schema, const Json& value, std::string path)
      : root_(root), schema_(schema), value_(value), path_(std::move(path)) {}

  Errors run() {
    for (const auto& [keyword, argument] : schema_.items()) check(keyword, argument);
    return std::move(errors_);
  }

 private:
  void check(std::string_view keyword, const Json& argument) {
    constexpr std::array<std::string_view, 2> kNotes = {"description", "default"};
    if (std::find(kNotes.begin(), kNotes.end(), keyword) != kNotes.end()) return;
    if (keyword == "$ref") {
      descend(root_.at(Json::json_pointer(argument.get<std::string>().substr(1))), value_, path_);
    } else if (keyword == "type") {
      expect(has_one_type(value_, argument), fmt::format("is not of the type {}", argument.dump()));
    } else if (keyword == "const") {
      expect(value_ == argument, fmt::format("is not {}", argument.dump()));
    } else if (keyword == "enum") {
      expect(std::find(argument.begin(), argument.end(), value_) != argument.end(),
             fmt::format("is not in {}", argument.dump()));
    } else if (keyword == "anyOf") {
      any_of(argument);
    } else if (!check_object(keyword, argument) && !check_array(keyword, argument) &&
               !check_bounds(keyword, argument)) {
      expect(false, fmt::format("has a schema with the keyword {}", keyword));
    }
  }

  void any_of(const Json& schemas) {
    const bool fits = std::any_of(schemas.begin(), schemas.end(), [&](const Json& schema) {
      return Check(root_, schema, value_, path_).run().empty();
    });
    expect(fits, "fits none of the schemas");
  }

  bool check_object(std::string_view keyword, const Json& argument) {
    const Json members = value_.is_object() ? value_ : Json::object();
    if (keyword == "properties") {
      for (const auto& [name, schema] : argument.items())
        if (members.contains(name)) descend(schema, members[name], path_ + "." + name);
    } else if (keyword == "required") {
      for (const Json& name : argument)
        expect(!value_.is_object() || value_.contains(name), fmt::format("has no {}", name.dump()));
    } else if (keyword == "additionalProperties") {
      additional(argument, members);
    } else if (keyword == "maxProperties") {
      expect(members.size() <= argument.get<size_t>(), "has too many members");
    } else {
      return false;
    }
    return true;
  }

  void additional(const Json& argument, const Json& members) {
    for (const auto& [name, member] : members.items()) {
      if (schema_.contains("properties") && schema_["properties"].contains(name)) continue;
      if (argument.is_object()) descend(argument, member, path_ + "." + name);
      expect(argument != Json(false), fmt::format("has {}, which is not described", name));
    }
  }

  bool check_array(std::string_view keyword, const Json& argument) {
    const Json elements = value_.is_array() ? value_ : Json::array();
    if (keyword == "items") {
      for (size_t i = 0; i < elements.size(); ++i) descend(argument, elements[i], fmt::format("{}[{}]", path_, i));
    } else if (keyword == "minItems") {
      expect(!value_.is_array() || elements.size() >= argument.get<size_t>(), "is too short");
    } else if (keyword == "maxItems") {
      expect(elements.size() <= argument.get<size_t>(), "is too long");
    } else {
      return false;
    }
    return true;
  }

  bool check_bounds(std::string_view keyword, const Json& argument) {
    const bool is_text = value_.is_string();
    if (keyword == "minimum") {
      expect(!value_.is_number() || value_.get<double>() >= argument.get<double>(), "is too small");
    } else if (keyword == "maximum") {
      expect(!value_.is_number() || value_.get<double>() <= argument.get<double>(), "is too large");
    } else if (keyword == "minLength") {
      expect(!is_text || value_.get_ref<const std::string&>().size() >= argument.get<size_t>(), "is too short");
    } else if (keyword == "maxLength") {
      expect(!is_text || value_.get_ref<const std::string&>().size() <= argument.get<size_t>(), "is too long");
    } else {
      return false;
    }
    return true;
  }

  void descend(const Json& schema, const Json& value, const std::string& path) {
    for (std::string& error : Check(root_, schema, value, path).run()) errors_.push_back(std::move(error));
  }
  void expect(bool good, const std::string& what) {
    if (!good) errors_.push_back(fmt::format("{} {}: {:.200}", path_, what, value_.dump()));
  }

  const Json& root_;
  const Json& schema_;
  const Json& value_;
  std::string path_;
  Errors errors_;
};

}  // namespace

Errors schema_errors(const Json& root, const Json& schema, const Json& value, const std::string& path) {
  return Check(root, schema, value, path).run();
}

}  // namespace spate::testing
