// Characters as Python's str methods class and map them, and positions in UTF-8 counted in characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "jinja/text.h"

namespace spate::jinja {

bool is_space(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);  // a digit of some script's decimal numbers
bool is_digit(char32_t c);    // and superscripts and the like
bool is_numeric(char32_t c);  // and fractions, Roman numerals
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_title(char32_t c);
bool is_printable(char32_t c);

// Append the mapping of one character, of up to three.
void append_upper(std::string& out, char32_t c);
void append_lower(std::string& out, char32_t c);
void append_title(std::string& out, char32_t c);

// A byte that is part of no valid character counts as a character of its own, whatever the function.
size_t count_characters(Heap& heap, std::string_view text);
// The byte where character `index` begins; text.size() where there are not so many.
size_t character_offset(Heap& heap, std::string_view text, size_t index);

inline bool is_ascii(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

struct Character {
  char32_t codepoint;  // kReplacementCharacter where not valid
  std::string_view bytes;
  size_t offset;  // of its first byte in the text
  bool valid;
};

// Calls fn(const Character&) for each character of the text in order.
template <typename Fn>
void for_each_character(Heap& heap, std::string_view text, Fn&& fn) {
  heap.scan(text.size());
  for (size_t at = 0; at < text.size();) {
    Character character{static_cast<unsigned char>(text[at]), text.substr(at, 1), at, true};
    if (character.codepoint >= 0x80) {
      const DecodedUtf8 decoded = decode_utf8(text.substr(at));
      character.valid = decoded.valid;
      character.codepoint = decoded.codepoint;
      if (decoded.valid) character.bytes = text.substr(at, static_cast<size_t>(decoded.n_bytes));
    }
    fn(static_cast<const Character&>(character));
    at += character.bytes.size();
  }
}

// Byte ends of the text without its leading, or trailing, characters for which in_set(char32_t) holds.
template <typename InSet>
size_t skip_leading(std::string_view text, InSet&& in_set) {
  size_t at = 0;
  while (at < text.size()) {
    const DecodedUtf8 decoded = decode_utf8(text.substr(at));
    if (!decoded.valid || !in_set(decoded.codepoint)) break;
    at += static_cast<size_t>(decoded.n_bytes);
  }
  return at;
}
template <typename InSet>
size_t skip_trailing(std::string_view text, InSet&& in_set) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const DecodedUtf8 decoded = decode_utf8(text.substr(begin, end - begin));
    if (!decoded.valid || static_cast<size_t>(decoded.n_bytes) != end - begin || !in_set(decoded.codepoint)) break;
    end = begin;
  }
  return end;
}

}  // namespace spate::jinja
