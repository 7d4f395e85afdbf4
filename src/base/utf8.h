// UTF-8 as RFC 3629 defines it: no surrogates, nothing above U+10FFFF, no overlong forms.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace spate {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct DecodedUtf8 {
  char32_t codepoint;  // kReplacementCharacter when not valid
  int n_bytes;  // consumed, at least 1; of an invalid sequence, its longest prefix that could have begun a valid one
  bool valid;
};

// The first character of a non-empty text.
DecodedUtf8 decode_utf8(std::string_view text);

// Appends a code point below 0x110000 that is no surrogate.
void append_utf8(std::string& out, char32_t codepoint);

bool is_valid_utf8(std::string_view text);

// Length of the longest prefix that does not end inside a character that more bytes could complete. Invalid bytes count
// as complete.
size_t complete_utf8_prefix(std::string_view text);

// The text with every invalid sequence replaced by U+FFFD.
std::string sanitize_utf8(std::string_view text);

// Input as a message may show it: in single quotes, control characters and invalid UTF-8 as \xNN, cut with "..." after
// max_bytes. What a hostile file calls a key cannot break the line or move the terminal's cursor.
std::string quote(std::string_view text, size_t max_bytes = 80);

}  // namespace spate
