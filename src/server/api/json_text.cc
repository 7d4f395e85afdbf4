#include "server/api/json_text.h"

#include <cmath>
#include <fmt/format.h>
#include <iterator>

#include "base/json_escape.h"
#include "base/utf8.h"

namespace spate::api {
namespace {

void append_valid(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (const std::string_view escape = json_short_escape(c); !escape.empty()) {
      out += escape;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
}

}  // namespace

void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  if (is_valid_utf8(text)) {
    append_valid(out, text);
  } else {
    append_valid(out, sanitize_utf8(text));
  }
  out += '"';
}

std::string json_text(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  append_json_text(out, text);
  return out;
}

void append_json_number(std::string& out, float value) {
  if (std::isfinite(value)) {
    fmt::format_to(std::back_inserter(out), "{}", value);
  } else {
    out += "null";
  }
}

}  // namespace spate::api
