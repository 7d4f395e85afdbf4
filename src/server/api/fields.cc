#include "server/api/fields.h"

#include <cmath>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace spate::api {
namespace {

std::string_view kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

ApiError wrong_type(const std::string& path, std::string_view wanted, const Json& value) {
  return ApiError::invalid(path, fmt::format("{} must be {}, not {}", path, wanted, kind_of(value)), "invalid_type");
}

ApiError out_of_range(const std::string& path, const Json& value, double min, double max, std::string_view kind) {
  const bool below = value.get<double>() < min;
  return ApiError::invalid(path, fmt::format("{} is {}; it must be from {} to {}", path, value.dump(), min, max),
                           fmt::format("{}_{}_value", kind, below ? "below_min" : "above_max"));
}

}  // namespace

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const Json* Fields::find(std::string_view name) {
  if (failed()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> Fields::as_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  constexpr double kTwoTo63 = 9223372036854775808.0;
  const auto number = value.get<double>();
  if (std::trunc(number) != number || number < -kTwoTo63 || number >= kTwoTo63) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::optional<int64_t> Fields::whole(std::string_view name, int64_t min, int64_t max) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  const std::string path = path_of(name);
  const std::optional<int64_t> number = as_integer(*value);
  if (number && *number >= min && *number <= max) return number;
  if (!value->is_number()) {
    fail(wrong_type(path, "a whole number", *value));
  } else if (const auto low = static_cast<double>(min), high = static_cast<double>(max);
             value->get<double>() < low || value->get<double>() > high) {
    fail(out_of_range(path, *value, low, high, "integer"));
  } else {
    fail(ApiError::invalid(path, fmt::format("{} is {}; it must be a whole number", path, value->dump()),
                           "invalid_type"));
  }
  return std::nullopt;
}

void Fields::number(std::string_view name, float& target, double min, double max) {
  const Json* value = find(name);
  if (value == nullptr) return;
  const std::string path = path_of(name);
  if (!value->is_number()) return fail(wrong_type(path, "a number", *value));
  const auto number = value->get<double>();
  if (!(number >= min && number <= max)) return fail(out_of_range(path, *value, min, max, "decimal"));
  target = static_cast<float>(number);
}

void Fields::boolean(std::string_view name, bool& target) {
  const Json* value = find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return fail(wrong_type(path_of(name), "true or false", *value));
  target = value->get<bool>();
}

void Fields::text(std::string_view name, std::string& target, size_t max_bytes) {
  const Json* value = find(name);
  if (value == nullptr) return;
  const std::string path = path_of(name);
  if (!value->is_string()) return fail(wrong_type(path, "a string", *value));
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes)
    return fail(ApiError::invalid(path, fmt::format("{} has {} bytes; it may have {}", path, text.size(), max_bytes),
                                  "string_above_max_length"));
  target = text;
}

void Fields::fail(std::string_view name, std::string message) {
  fail(ApiError::invalid(path_of(name), std::move(message)));
}

void Fields::fail(ApiError error) {
  if (!failed()) error_ = std::move(error);
}

ApiResult<void> Fields::result() const {
  if (error_) return *error_;
  return {};
}

}  // namespace spate::api
