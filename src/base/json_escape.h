// What JSON writes some characters as.
#pragma once

#include <string_view>

namespace spate {

// The escape of two characters that JSON has for this one in strings (RFC 8259, 7); empty where there is none. Other
// control characters are \u00NN there, and all else stands for itself.
constexpr std::string_view json_short_escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      return {};
  }
}

}  // namespace spate
