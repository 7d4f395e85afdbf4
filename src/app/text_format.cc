#include "app/text_format.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace spate::app {

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_line(const Json& json) {
  return json_text(json) + "\n";
}

namespace {

// C0, DEL and C1 controls; the line and paragraph separators also break a line.
bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

void append_escaped(std::string& out, char32_t c) {
  if (c == '\n')
    out += "\\n";
  else if (c == '\t')
    out += "\\t";
  else if (c == '\r')
    out += "\\r";
  else if (c < 0x100)
    out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
  else
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
}

}  // namespace

std::string terminal_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const DecodedUtf8 c = decode_utf8(text);
    if (c.codepoint == '\n' || c.codepoint == '\t' || !is_control(c.codepoint)) append_utf8(out, c.codepoint);
    text.remove_prefix(static_cast<size_t>(c.n_bytes));
  }
  return out;
}

std::string shorten(std::string_view text, size_t max_chars) {
  std::string out;
  for (size_t n_chars = 0; !text.empty(); ++n_chars) {
    if (n_chars == max_chars) return out + "...";
    const DecodedUtf8 c = decode_utf8(text);
    if (is_control(c.codepoint))
      append_escaped(out, c.codepoint);
    else
      append_utf8(out, c.codepoint);
    text.remove_prefix(static_cast<size_t>(c.n_bytes));
  }
  return out;
}

std::string escape_control(std::string_view text) {
  return shorten(text, std::string_view::npos);
}

std::string format_bytes(uint64_t n_bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (n_bytes < 1024) return fmt::format("{} B", n_bytes);
  double value = static_cast<double>(n_bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

}  // namespace spate::app
