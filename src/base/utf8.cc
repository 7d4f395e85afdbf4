#include "base/utf8.h"

#include <fmt/core.h>
#include <iterator>

#include "base/check.h"

namespace spate {

namespace {

struct Lead {
  int n_bytes;        // of the whole character; 0: no lead byte
  uint8_t low, high;  // range of the second byte (RFC 3629, section 4)
};

Lead classify(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes of the character at the start of text that are present and in range; equals lead.n_bytes when it is whole.
int matching_bytes(std::string_view text, const Lead& lead) {
  int n = 1;
  while (n < lead.n_bytes && n < static_cast<int>(text.size())) {
    const auto byte = static_cast<uint8_t>(text[n]);
    const uint8_t low = n == 1 ? lead.low : 0x80, high = n == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) break;
    ++n;
  }
  return n;
}

}  // namespace

DecodedUtf8 decode_utf8(std::string_view text) {
  SPATE_CHECK(!text.empty());
  const auto first = static_cast<uint8_t>(text[0]);
  const Lead lead = classify(first);
  if (lead.n_bytes == 1) return {first, 1, true};
  if (lead.n_bytes == 0) return {kReplacementCharacter, 1, false};
  const int n = matching_bytes(text, lead);
  if (n < lead.n_bytes) return {kReplacementCharacter, n, false};
  char32_t codepoint = first & (0x7F >> lead.n_bytes);
  for (int i = 1; i < n; ++i) codepoint = (codepoint << 6) | (static_cast<uint8_t>(text[i]) & 0x3F);
  return {codepoint, n, true};
}

void append_utf8(std::string& out, char32_t codepoint) {
  SPATE_CHECK(codepoint < 0x110000 && (codepoint < 0xD800 || codepoint > 0xDFFF), "U+{:X}",
              static_cast<uint32_t>(codepoint));
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((codepoint >> shift) & 0x3F)); };
  if (codepoint < 0x80) {
    out += static_cast<char>(codepoint);
  } else if (codepoint < 0x800) {
    out += static_cast<char>(0xC0 | (codepoint >> 6));
    tail(0);
  } else if (codepoint < 0x10000) {
    out += static_cast<char>(0xE0 | (codepoint >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (codepoint >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const DecodedUtf8 c = decode_utf8(text);
    if (!c.valid) return false;
    text.remove_prefix(c.n_bytes);
  }
  return true;
}

size_t complete_utf8_prefix(std::string_view text) {
  // A character that is cut off starts among the last three bytes.
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const size_t start = text.size() - back;
    const Lead lead = classify(static_cast<uint8_t>(text[start]));
    if (lead.n_bytes == 0) continue;
    const bool cut =
        lead.n_bytes > static_cast<int>(back) && matching_bytes(text.substr(start), lead) == static_cast<int>(back);
    return cut ? start : text.size();
  }
  return text.size();
}

std::string sanitize_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const DecodedUtf8 c = decode_utf8(text);
    if (c.valid)
      out.append(text.substr(0, c.n_bytes));
    else
      append_utf8(out, kReplacementCharacter);
    text.remove_prefix(c.n_bytes);
  }
  return out;
}

std::string quote(std::string_view text, size_t max_bytes) {
  std::string out = "'";
  size_t used = 0;
  while (used < text.size() && used < max_bytes) {
    const DecodedUtf8 c = decode_utf8(text.substr(used));
    const bool control = c.codepoint < 0x20 || (c.codepoint >= 0x7F && c.codepoint < 0xA0) || c.codepoint == 0x2028 ||
                         c.codepoint == 0x2029;  // C0, DEL, C1, line and paragraph separator
    for (int i = 0; i < c.n_bytes; ++i) {
      const char byte = text[used + i];
      if (c.valid && !control)
        out += byte;
      else
        fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<uint8_t>(byte));
    }
    used += c.n_bytes;
  }
  return out + (used < text.size() ? "...'" : "'");
}

}  // namespace spate
