#include "jinja/unicode.h"

#include <array>
#include <utf8proc.h>

namespace spate::jinja {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Characters that map to several (Unicode's SpecialCasing.txt, without conditions; the common ones).
struct SpecialCase {
  char32_t from;
  std::array<char32_t, 3> upper, title;
};
constexpr SpecialCase kSpecialCases[] = {
    {0x00DF, {'S', 'S'}, {'S', 's'}},              // sharp s
    {0x0149, {0x02BC, 'N'}, {0x02BC, 'N'}},        // n preceded by apostrophe
    {0x01F0, {'J', 0x030C}, {'J', 0x030C}},        // j with caron
    {0x0587, {0x0535, 0x0552}, {0x0535, 0x0582}},  // Armenian ligature ech yiwn
    {0xFB00, {'F', 'F'}, {'F', 'f'}},
    {0xFB01, {'F', 'I'}, {'F', 'i'}},
    {0xFB02, {'F', 'L'}, {'F', 'l'}},
    {0xFB03, {'F', 'F', 'I'}, {'F', 'f', 'i'}},
    {0xFB04, {'F', 'F', 'L'}, {'F', 'f', 'l'}},
    {0xFB05, {'S', 'T'}, {'S', 't'}},
    {0xFB06, {'S', 'T'}, {'S', 't'}},
};

const SpecialCase* special_case(char32_t c) {
  if (c < 0xDF) return nullptr;
  for (const SpecialCase& row : kSpecialCases)
    if (row.from == c) return &row;
  return nullptr;
}

void append_all(std::string& out, const std::array<char32_t, 3>& characters) {
  for (const char32_t c : characters)
    if (c != 0) append_utf8(out, c);
}

void append_mapped(std::string& out, utf8proc_int32_t mapped) {
  append_utf8(out, static_cast<char32_t>(mapped));
}

}  // namespace

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(char32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_digit(char32_t c) {
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
         (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
}

bool is_numeric(char32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_upper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return utf8proc_isupper(static_cast<utf8proc_int32_t>(c));
}

bool is_lower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return utf8proc_islower(static_cast<utf8proc_int32_t>(c));
}

bool is_title(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LT;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void append_upper(std::string& out, char32_t c) {
  if (const SpecialCase* row = special_case(c)) return append_all(out, row->upper);
  append_mapped(out, utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}

void append_lower(std::string& out, char32_t c) {
  if (c == 0x0130) return append_all(out, {'i', 0x0307});  // I with dot above
  append_mapped(out, utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

void append_title(std::string& out, char32_t c) {
  if (const SpecialCase* row = special_case(c)) return append_all(out, row->title);
  append_mapped(out, utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

size_t count_characters(Heap& heap, std::string_view text) {
  size_t n = 0;
  heap.read(text.size());
  if (is_ascii(text)) return text.size();
  for_each_character(heap, text, [&](const Character&) { ++n; });
  return n;
}

size_t character_offset(Heap& heap, std::string_view text, size_t index) {
  if (index >= text.size()) return text.size();
  heap.read(index);
  if (is_ascii(text.substr(0, index))) return index;
  heap.scan(index);
  size_t at = 0;
  for (; index > 0 && at < text.size(); --index) {
    const DecodedUtf8 decoded = decode_utf8(text.substr(at));
    at += decoded.valid ? static_cast<size_t>(decoded.n_bytes) : 1;
  }
  return at;
}

}  // namespace spate::jinja
