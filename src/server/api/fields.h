// Typed fields of a JSON object that a client sent. null is the same as absent; fields that nobody asks for are
// ignored.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "server/api/error_json.h"
#include "server/api/json_body.h"

namespace spate::api {

// Reads leave their target as it is where the field is absent, and where it is wrong, which is then the error; after
// the first error they do nothing. So a reader of many fields asks once, at the end.
class Fields {
 public:
  // object outlives this. path: of the object, as messages name it; "" for the body itself.
  explicit Fields(const Json& object, std::string path = {});

  // null where the field is absent, or there is an error already.
  const Json* find(std::string_view name);

  // A number within [min, max].
  void number(std::string_view name, float& target, double min, double max);
  // A whole number within [min, max]; 3.0 is one. T: an integer, or an optional of one.
  template <typename T>
  void integer(std::string_view name, T& target, int64_t min, int64_t max) {
    if (const std::optional<int64_t> value = whole(name, min, max)) target = assigned<T>(*value);
  }
  void boolean(std::string_view name, bool& target);
  void text(std::string_view name, std::string& target, size_t max_bytes);

  // A whole number as JSON wrote it; no error where it is none or beyond int64.
  static std::optional<int64_t> as_integer(const Json& value);

  void fail(std::string_view name, std::string message);
  void fail(ApiError error);
  bool failed() const { return error_.has_value(); }
  // The first error, if there was one.
  ApiResult<void> result() const;

  // "logit_bias", or "messages[2].logit_bias".
  std::string path_of(std::string_view name) const;

 private:
  template <typename T>
  static T assigned(int64_t value) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(value);
    } else {
      return static_cast<typename T::value_type>(value);
    }
  }
  std::optional<int64_t> whole(std::string_view name, int64_t min, int64_t max);

  const Json& object_;
  std::string path_;
  std::optional<ApiError> error_;
};

}  // namespace spate::api
