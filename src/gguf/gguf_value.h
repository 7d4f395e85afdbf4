// The values of a GGUF file's metadata: their types, as the specification numbers them, and what they hold once read.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace spate {

// Value types as the file numbers them.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
inline constexpr uint32_t kGgufTypes = 13;

std::string_view gguf_type_name(GgufType type);  // "u32", "string", "array"

// Any type but strings and arrays.
inline bool is_scalar(GgufType type) {
  return type != GgufType::kString && type != GgufType::kArray;
}

// An array of scalars or strings. Numbers are read from the mapping on access; strings were located when the file was
// opened.
struct GgufArray {
  GgufType element_type = GgufType::kU8;
  uint64_t size = 0;
  const std::byte* data = nullptr;        // the elements, unaligned; for strings the first one's length
  std::vector<std::string_view> strings;  // [size] where element_type is kString; views into the mapping

  bool is_integer() const;
  int64_t integer(uint64_t index) const;  // any integer or bool type; a u64 above INT64_MAX reads as INT64_MAX
  double number(uint64_t index) const;    // any scalar type
};

// unsigned integers widen to uint64_t, signed to int64_t, floats to double.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string_view, GgufArray>;

// What a value holds, in a message's words: "an integer", "an array of string".
std::string describe(const GgufValue& value);

// The value of an optional key as a number in [min, max]; Error kBadFile, naming path and key, if it is there and is
// something else. value is null where the key is absent.
Result<std::optional<int64_t>> integer_in_range(std::string_view path, std::string_view key, const GgufValue* value,
                                                int64_t min, int64_t max);

// Calls fn with a T{}, the C++ type of a scalar GgufType; bool for kBool.
template <typename Fn>
auto with_scalar_type(GgufType type, Fn&& fn) {
  switch (type) {
    case GgufType::kU8:
      return fn(uint8_t{});
    case GgufType::kI8:
      return fn(int8_t{});
    case GgufType::kU16:
      return fn(uint16_t{});
    case GgufType::kI16:
      return fn(int16_t{});
    case GgufType::kU32:
      return fn(uint32_t{});
    case GgufType::kI32:
      return fn(int32_t{});
    case GgufType::kF32:
      return fn(float{});
    case GgufType::kBool:
      return fn(bool{});
    case GgufType::kU64:
      return fn(uint64_t{});
    case GgufType::kI64:
      return fn(int64_t{});
    case GgufType::kF64:
      return fn(double{});
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  SPATE_CHECK(false, "{} is no scalar type", gguf_type_name(type));
  return fn(uint8_t{});
}

// An unaligned little-endian scalar; a bool is any byte but 0 (validation allows 0 and 1, but the file may change
// after).
template <typename T>
T load_scalar(const std::byte* bytes) {
  if constexpr (std::is_same_v<T, bool>) {
    return bytes[0] != std::byte{0};
  } else {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
}

// Bytes of a scalar type in a file.
inline size_t scalar_bytes(GgufType type) {
  static_assert(sizeof(bool) == 1);
  return with_scalar_type(type, [](auto zero) { return sizeof zero; });
}

}  // namespace spate
