// One value by a format specification.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "jinja/format.h"
#include "jinja/operators.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

constexpr int64_t kMaxDigits = 1000;  // of a formatted number

bool is_align(char c) {
  return c == '<' || c == '>' || c == '^' || c == '=';
}

class SpecParser {
 public:
  explicit SpecParser(const Text& text) : text_(text), bytes_(text.bytes()) {}

  FormatSpec run() {
    FormatSpec spec;
    size_t first = 0;
    if (!bytes_.empty()) {
      const DecodedUtf8 decoded = decode_utf8(bytes_);
      first = decoded.valid ? static_cast<size_t>(decoded.n_bytes) : 1;
    }
    bool has_fill = false;
    if (first < bytes_.size() && is_align(bytes_[first])) {
      spec.fill = bytes_.substr(0, first);
      spec.fill_origin = text_.origin(0, first);
      spec.align = bytes_[first];
      at_ = first + 1;
      has_fill = true;
    } else if (!bytes_.empty() && is_align(bytes_[0])) {
      spec.align = bytes_[at_++];
    }
    if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = bytes_[at_++];
    spec.alternate = take('#');
    if (take('0')) {
      if (!has_fill) spec.fill = "0";
      if (spec.align == 0) spec.align = '=';
    }
    spec.width = number(0);
    if (peek() == ',' || peek() == '_') spec.grouping = bytes_[at_++];
    if (take('.')) {
      if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("a format specification lacks the digits after '.'");
      spec.precision = number(0);
    }
    if (at_ < bytes_.size()) spec.type = bytes_[at_++];
    if (at_ < bytes_.size()) fail("invalid format specification {}", quote(bytes_, 40));
    return spec;
  }

 private:
  char peek() const { return at_ < bytes_.size() ? bytes_[at_] : '\0'; }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  int64_t number(int64_t value) {
    for (; std::isdigit(static_cast<unsigned char>(peek())); ++at_)
      value = std::min<int64_t>(value * 10 + (peek() - '0'), int64_t{1} << 40);
    return value;
  }

  const Text& text_;
  const std::string_view bytes_;
  size_t at_ = 0;
};

// A number taken apart: the sign, a prefix like 0x, the digits before the point, and what follows them.
struct Parts {
  std::string sign, prefix, whole, rest;
};

std::string with_groups(const std::string& digits, char separator, size_t group) {
  std::string result;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % group == 0) result += separator;
    result += digits[i];
  }
  return result;
}

std::string sign_of(bool negative, char sign) {
  if (negative) return "-";
  return sign == '-' ? "" : std::string(1, sign);
}

Text layout(Heap& heap, Parts parts, const FormatSpec& spec, size_t group) {
  const bool zero_filled = spec.fill == "0" && spec.align == '=';
  if (spec.grouping) {
    // Zeros that fill up the width are grouped with the digits.
    const int64_t others = static_cast<int64_t>(parts.sign.size() + parts.prefix.size() + parts.rest.size());
    const auto grouped_width = [&](size_t n) { return static_cast<int64_t>(n + (n - 1) / group) + others; };
    if (zero_filled) {
      if (spec.width > kMaxDigits)
        fail("a number is formatted {} characters wide, more than {}", spec.width, kMaxDigits);
      while (grouped_width(parts.whole.size()) < spec.width) parts.whole.insert(0, "0");
    }
    parts.whole = with_groups(parts.whole, spec.grouping, group);
  }
  const std::string lead = parts.sign + parts.prefix, digits = parts.whole + parts.rest;
  const Origin origin = Origin::kTemplate;
  const Text fill(spec.fill, spec.fill_origin);
  if (spec.align != '=') {
    const Text text(lead + digits, origin);
    if (spec.align == '^') {
      const int64_t padding = std::max<int64_t>(0, spec.width - static_cast<int64_t>(text.size()));
      return justify(heap, justify(heap, text, static_cast<int64_t>(text.size()) + padding / 2, fill, kRight),
                     spec.width, fill, kLeft);
    }
    return justify(heap, text, spec.width, fill, spec.align == '<' ? kLeft : kRight);
  }
  TextBuilder out(heap);
  out.append(lead, origin);
  out.append(justify(heap, Text(digits, origin), spec.width - static_cast<int64_t>(lead.size()), fill, kRight));
  return out.finish();
}

Text format_integer(Heap& heap, int64_t value, const FormatSpec& spec) {
  if (spec.precision >= 0) fail("a precision is not allowed in the format of an integer");
  Parts parts{.sign = sign_of(value < 0, spec.sign), .prefix = {}, .whole = {}, .rest = {}};
  int base = 10;
  switch (spec.type) {
    case 0:
    case 'd':
    case 'n':
      break;
    case 'b':
      base = 2;
      break;
    case 'o':
      base = 8;
      break;
    case 'x':
    case 'X':
      base = 16;
      break;
    case 'c': {
      if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        fail("{} is no character's code", value);
      std::string utf8;
      append_utf8(utf8, static_cast<char32_t>(value));
      return justify(heap, Text(utf8, Origin::kRequest), spec.width, Text(spec.fill, spec.fill_origin),
                     spec.align == '>' ? kRight : kLeft);
    }
    default:
      fail("unknown format code {} for an integer", quote({&spec.type, 1}));
  }
  if (spec.alternate && base != 10) parts.prefix = base == 2 ? "0b" : base == 8 ? "0o" : "0x";
  char digits[65];
  const uint64_t magnitude = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  parts.whole.assign(digits, std::to_chars(digits, digits + sizeof(digits), magnitude, base).ptr);
  if (spec.type == 'X')
    for (std::string* part : {&parts.whole, &parts.prefix})
      std::transform(part->begin(), part->end(), part->begin(), [](unsigned char c) { return std::toupper(c); });
  return layout(heap, std::move(parts), spec, base == 10 ? 3 : 4);
}

Text format_float(Heap& heap, double value, const FormatSpec& spec) {
  std::string digits;
  const double magnitude = std::fabs(value);
  if (spec.type == 0 && spec.precision < 0) {
    digits = float_repr(magnitude);
  } else if (spec.type == 0) {
    digits = format_real(magnitude, 'g', std::max<int64_t>(spec.precision, 1), spec.alternate);
    // Unlike 'g', a float without a type keeps a digit after the point.
    if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  } else {
    digits = format_real(magnitude, spec.type == 'n' ? 'g' : spec.type, spec.precision, spec.alternate);
  }
  const size_t whole = digits.find_first_not_of("0123456789");
  Parts parts{
      .sign = sign_of(std::signbit(value) && !std::isnan(value), spec.sign), .prefix = {}, .whole = digits, .rest = {}};
  if (whole != std::string::npos && whole > 0) {
    parts.whole = digits.substr(0, whole);
    parts.rest = digits.substr(whole);
  }
  return layout(heap, std::move(parts), spec, 3);
}

Text format_text(Heap& heap, const Text& text, const FormatSpec& spec) {
  if (spec.type != 0 && spec.type != 's') fail("unknown format code {} for a string", quote({&spec.type, 1}));
  if (spec.align == '=' && spec.fill != "0") fail("'=' alignment is not allowed in the format of a string");
  if (spec.sign != '-') fail("a sign is not allowed in the format of a string");
  Text shown = text;
  if (spec.precision >= 0)
    shown = text.slice(0, character_offset(heap, text.bytes(), static_cast<size_t>(spec.precision)));
  const Text fill(spec.fill, spec.fill_origin);
  if (spec.align == '^') {
    const int64_t size = static_cast<int64_t>(count_characters(heap, shown.bytes()));
    const int64_t n_left = std::max<int64_t>(0, spec.width - size) / 2;
    return justify(heap, justify(heap, shown, size + n_left, fill, kRight), spec.width, fill, kLeft);
  }
  return justify(heap, shown, spec.width, fill, spec.align == '>' ? kRight : kLeft);
}

}  // namespace

FormatSpec parse_format_spec(const Text& spec) {
  return SpecParser(spec).run();
}

std::string format_real(double value, char type, int64_t precision, bool alternate) {
  if (precision > kMaxDigits) fail("a number is formatted with {} digits, more than {}", precision, kMaxDigits);
  const int digits = precision < 0 ? 6 : static_cast<int>(precision);
  switch (type) {
    case 'e':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}e}" : "{:.{}e}"), value, digits);
    case 'E':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}E}" : "{:.{}E}"), value, digits);
    case 'f':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}f}" : "{:.{}f}"), value, digits);
    case 'F':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}F}" : "{:.{}F}"), value, digits);
    case 'g':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}g}" : "{:.{}g}"), value, std::max(digits, 1));
    case 'G':
      return fmt::format(fmt::runtime(alternate ? "{:#.{}G}" : "{:.{}G}"), value, std::max(digits, 1));
    case '%':
      return fmt::format("{:.{}f}%", value * 100, digits);
    default:
      fail("unknown format code {} for a float", quote({&type, 1}));
  }
}

Text format_value(Heap& heap, const Value& value, const FormatSpec& given) {
  FormatSpec spec = given;
  if (value.is_undefined()) {
    if (spec.type == 0 && spec.width == 0 && spec.precision < 0) return {};
    value.fail_undefined();
  }
  const std::string_view real_types = "eEfFgG%";
  const bool as_real = spec.type != 0 && real_types.find(spec.type) != std::string_view::npos;
  if (value.text()) return format_text(heap, *value.text(), spec);
  if (!value.is_number() || (value.boolean() && spec.type == 0 && spec.width == 0)) {
    if (spec.type != 0 || spec.width != 0 || spec.precision >= 0)
      fail("'{}' takes no format specification", value.type_name());
    return to_text(heap, value);
  }
  if (spec.align == 0) spec.align = '>';
  if (value.real() || as_real) return format_float(heap, *value.number(), spec);
  return format_integer(heap, *value.integer(), spec);
}

}  // namespace spate::jinja
