// Filters on numbers.
#include <array>
#include <charconv>
#include <cmath>

#include "jinja/filter_support.h"
#include "jinja/format.h"
#include "jinja/text_ops.h"

namespace spate::jinja {
namespace {

// Python's int() and float() of a string: whitespace around it and single underscores between digits are fine.
std::string number_text(Heap& heap, const Text& text) {
  const std::string_view bytes = strip(heap, text, std::nullopt).bytes();
  heap.scan(bytes.size());
  std::string result;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool between = i > 0 && i + 1 < bytes.size() && std::isalnum(static_cast<unsigned char>(bytes[i - 1])) &&
                         std::isalnum(static_cast<unsigned char>(bytes[i + 1]));
    if (bytes[i] != '_' || !between) result += bytes[i];
  }
  return result;
}

std::optional<double> parse_float(Heap& heap, const Text& text) {
  const std::string number = number_text(heap, text);
  const char* begin = number.data();
  const char* end = begin + number.size();
  if (begin != end && *begin == '+' && begin + 1 != end && begin[1] != '-') ++begin;
  double value = 0;
  const std::from_chars_result result = std::from_chars(begin, end, value);
  if (result.ec == std::errc::result_out_of_range) return std::nullopt;
  if (result.ec != std::errc() || result.ptr != end || begin == end || end[-1] == ')') return std::nullopt;
  return value;
}

std::optional<int64_t> parse_integer(Heap& heap, const Text& text, int64_t base) {
  const std::string number = number_text(heap, text);
  const char* begin = number.data();
  const char* end = begin + number.size();
  const bool negative = begin != end && *begin == '-';
  if (begin != end && (*begin == '-' || *begin == '+')) ++begin;
  const char prefix = end - begin > 2 && begin[0] == '0' ? static_cast<char>(begin[1] | 32) : ' ';
  const int64_t prefix_base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
  if (prefix_base != 0 && (base == prefix_base || base == 0)) {
    begin += 2;
    base = prefix_base;
  }
  if (base == 0) base = 10;
  uint64_t magnitude = 0;
  const std::from_chars_result result = std::from_chars(begin, end, magnitude, static_cast<int>(base));
  if (result.ec == std::errc::result_out_of_range) fail("an integer in a string does not fit 64 bits");
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  if (magnitude > static_cast<uint64_t>(INT64_MAX)) fail("an integer in a string does not fit 64 bits");
  const int64_t value = static_cast<int64_t>(magnitude);
  return negative ? -value : value;
}

std::optional<int64_t> truncate(double value) {
  if (std::isnan(value)) return std::nullopt;
  if (!(value > -0x1p63 && value < 0x1p63)) fail("the float {} does not fit a 64-bit integer", float_repr(value));
  return static_cast<int64_t>(value);
}

double require_number(const Value& value, std::string_view filter) {
  if (value.is_undefined()) value.fail_undefined();
  if (!value.number()) fail("'{}' needs a number, not '{}'", filter, value.type_name());
  return *value.number();
}

}  // namespace

Value filter_abs(SPATE_JINJA_PARAMETERS) {
  require_number(subject, "abs");
  if (subject.real()) return std::fabs(*subject.real());
  const int64_t value = *subject.integer();
  return value < 0 ? negate(value) : Value(value);
}

Value filter_int(SPATE_JINJA_PARAMETERS) {
  const int64_t base = arguments.integer(1, 10);
  if (base != 0 && (base < 2 || base > 36)) fail("the base of 'int' is {}: it must be 0 or from 2 to 36", base);
  if (subject.is_undefined()) subject.fail_undefined();
  std::optional<int64_t> value;
  if (const Text* text = subject.text()) {
    value = parse_integer(interpreter.heap(), *text, base);
    if (!value)
      if (const std::optional<double> real = parse_float(interpreter.heap(), *text)) value = truncate(*real);
  } else if (const double* real = subject.real()) {
    value = truncate(*real);
  } else {
    value = subject.integer();
  }
  if (value) return *value;
  return arguments.has(0) ? arguments[0] : Value(0);
}

Value filter_float(SPATE_JINJA_PARAMETERS) {
  if (subject.is_undefined()) subject.fail_undefined();
  const std::optional<double> value =
      subject.text() ? parse_float(interpreter.heap(), *subject.text()) : subject.number();
  if (value) return *value;
  return arguments.has(0) ? arguments[0] : Value(0.0);
}

Value filter_round(SPATE_JINJA_PARAMETERS) {
  const double value = require_number(subject, "round");
  const int64_t precision = arguments.integer(0, 0);
  const std::string method(arguments.has(1) ? arguments.text(1).bytes() : "common");
  if (method != "common" && method != "ceil" && method != "floor")
    fail("the method of 'round' must be common, ceil or floor");
  constexpr int64_t kMaxPrecision = 300;
  if (precision > kMaxPrecision || precision < -kMaxPrecision) fail("'round' to {} digits", precision);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(value * scale) / scale;
  if (method == "floor") return std::floor(value * scale) / scale;
  if (!std::isfinite(value)) return value;
  if (!subject.real()) {
    if (precision >= 0) return *subject.integer();
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    const double rounded = std::nearbyint(value / unit) * unit;
    if (std::fabs(rounded) >= 0x1p63) fail("the result of 'round' does not fit 64 bits");
    return static_cast<int64_t>(rounded);
  }
  // Correctly rounded decimal digits, half to even, as Python rounds.
  if (precision >= 0) return *parse_float(interpreter.heap(), literal(format_real(value, 'f', precision, false)));
  return std::nearbyint(value * scale) / scale;
}

Value filter_filesizeformat(SPATE_JINJA_PARAMETERS) {
  static constexpr std::array<std::string_view, 8> kDecimal = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
  static constexpr std::array<std::string_view, 8> kBinary = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
  if (subject.is_undefined()) subject.fail_undefined();
  const std::optional<double> parsed =
      subject.text() ? parse_float(interpreter.heap(), *subject.text()) : subject.number();
  if (!parsed) fail("'filesizeformat' needs a number");
  const bool binary = arguments.flag(0, false);
  const double base = binary ? 1024 : 1000;
  if (*parsed == 1) return literal("1 Byte");
  if (*parsed < base) return literal(fmt::format("{} Bytes", truncate(*parsed).value_or(0)));
  double unit = base;
  size_t i = 0;
  for (; i < kDecimal.size(); ++i) {
    unit *= base;
    if (*parsed < unit) break;
  }
  const std::string_view suffix = (binary ? kBinary : kDecimal)[std::min(i, kDecimal.size() - 1)];
  return literal(fmt::format("{:.1f} {}", base * *parsed / unit, suffix));
}

}  // namespace spate::jinja
