#include "gguf/gguf_value.h"

#include <array>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "base/utf8.h"

namespace spate {

static_assert(std::endian::native == std::endian::little, "values are read from the mapping as they are");

std::string_view gguf_type_name(GgufType type) {
  constexpr std::array<std::string_view, kGgufTypes> kNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                               "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<uint32_t>(type);
  return index < kGgufTypes ? kNames[index] : "?";
}

bool GgufArray::is_integer() const {
  return is_scalar(element_type) && element_type != GgufType::kF32 && element_type != GgufType::kF64;
}

int64_t GgufArray::integer(uint64_t index) const {
  SPATE_CHECK(is_integer() && index < size, "element {} of {} of type {}", index, size, gguf_type_name(element_type));
  return with_scalar_type(element_type, [&](auto zero) -> int64_t {
    using T = decltype(zero);
    const T value = load_scalar<T>(data + index * sizeof(T));
    if constexpr (std::is_same_v<T, uint64_t>)
      return value > std::numeric_limits<int64_t>::max() ? std::numeric_limits<int64_t>::max()
                                                         : static_cast<int64_t>(value);
    else if constexpr (std::is_integral_v<T>)
      return value;
    else
      return 0;  // is_integer() excludes floats
  });
}

double GgufArray::number(uint64_t index) const {
  SPATE_CHECK(is_scalar(element_type) && index < size, "element {} of {} of type {}", index, size,
              gguf_type_name(element_type));
  return with_scalar_type(element_type, [&](auto zero) {
    using T = decltype(zero);
    return static_cast<double>(load_scalar<T>(data + index * sizeof(T)));
  });
}

std::string describe(const GgufValue& value) {
  struct Describe {
    std::string operator()(uint64_t v) const { return std::to_string(v); }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return fmt::format("the float {}", v); }
    std::string operator()(bool v) const { return v ? "the bool true" : "the bool false"; }
    std::string operator()(std::string_view v) const { return "the string " + quote(v, 40); }
    std::string operator()(const GgufArray& v) const {
      return fmt::format("an array of {} {}", v.size, gguf_type_name(v.element_type));
    }
  };
  return std::visit(Describe{}, value);
}

Result<std::optional<int64_t>> integer_in_range(std::string_view path, std::string_view key, const GgufValue* value,
                                                int64_t min, int64_t max) {
  if (value == nullptr) return std::optional<int64_t>();
  const auto* natural = std::get_if<uint64_t>(value);
  const auto* number = std::get_if<int64_t>(value);
  if (natural != nullptr && std::in_range<int64_t>(*natural)) {
    const auto n = static_cast<int64_t>(*natural);
    if (n >= min && n <= max) return std::optional(n);
  }
  if (number != nullptr && *number >= min && *number <= max) return std::optional(*number);
  return Error::bad_file(
      path, fmt::format("key {} is {}; it must be an integer from {} to {}", quote(key), describe(*value), min, max));
}

}  // namespace spate
