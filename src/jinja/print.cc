// str() and repr().
#include <charconv>
#include <cmath>

#include "jinja/operators.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

std::string_view escape_of(char32_t c) {
  switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      return {};
  }
}

void append_text_repr(Heap& heap, TextBuilder& out, const Text& text) {
  const std::string_view bytes = text.bytes();
  const bool use_double = bytes.find('\'') != std::string_view::npos && bytes.find('"') == std::string_view::npos;
  const char quote_character = use_double ? '"' : '\'';
  const std::string_view quotes(&quote_character, 1);
  out.append(quotes, kMade);
  for_each_character(heap, bytes, [&](const Character& character) {
    const char32_t c = character.codepoint;
    const Origin origin = text.origin(character.offset, character.offset + character.bytes.size());
    if (const std::string_view escape = escape_of(c); !escape.empty()) return out.append(escape, origin);
    if (c == static_cast<unsigned char>(quote_character)) return out.append(use_double ? "\\\"" : "\\'", origin);
    if (!character.valid)
      return out.append(fmt::format("\\x{:02x}", static_cast<unsigned char>(character.bytes[0])), origin);
    if (is_printable(c)) return out.append(character.bytes, origin);
    const uint32_t code = c;
    out.append(code < 0x100     ? fmt::format("\\x{:02x}", code)
               : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                : fmt::format("\\U{:08x}", code),
               origin);
  });
  out.append(quotes, kMade);
}

struct Brackets {
  std::string_view open, close;
};
Brackets brackets_of(List::Kind kind) {
  switch (kind) {
    case List::Kind::kTuple:
      return {"(", ")"};
    case List::Kind::kDictKeys:
      return {"dict_keys([", "])"};
    case List::Kind::kDictValues:
      return {"dict_values([", "])"};
    case List::Kind::kDictItems:
      return {"dict_items([", "])"};
    default:
      return {"[", "]"};
  }
}

void append_list_repr(Heap& heap, TextBuilder& out, const List& list) {
  if (list.kind() == List::Kind::kRange) return out.append(list.display, kMade);
  if (list.kind() == List::Kind::kGenerator) return out.append("<generator object>", kMade);
  const Brackets brackets = brackets_of(list.kind());
  out.append(brackets.open, kMade);
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out.append(", ", kMade);
    append_repr(heap, out, list[i]);
  }
  if (list.kind() == List::Kind::kTuple && list.size() == 1) out.append(",", kMade);
  out.append(brackets.close, kMade);
}

void append_dict_repr(Heap& heap, TextBuilder& out, const Dict& dict) {
  out.append("{", kMade);
  bool first = true;
  for (const Dict::Entry& entry : dict.entries()) {
    if (!std::exchange(first, false)) out.append(", ", kMade);
    append_repr(heap, out, entry.key);
    out.append(": ", kMade);
    append_repr(heap, out, entry.value);
  }
  out.append("}", kMade);
}

std::string scalar_text(const Value& value) {
  if (const bool* boolean = value.boolean()) return *boolean ? "True" : "False";
  if (const std::optional<int64_t> integer = value.integer()) return std::to_string(*integer);
  if (const double* real = value.real()) return float_repr(*real);
  return "None";
}

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const char* end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  int exponent = 0;
  const char* digits = shortest.data() + e + 1;
  std::from_chars(*digits == '+' ? digits + 1 : digits, end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  std::string fixed(350, '\0');
  fixed.resize(static_cast<size_t>(
      std::to_chars(fixed.data(), fixed.data() + fixed.size(), value, std::chars_format::fixed).ptr - fixed.data()));
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

void append_repr(Heap& heap, TextBuilder& out, const Value& value) {
  const DepthGuard guard(heap);
  heap.step();
  if (value.text()) return append_text_repr(heap, out, *value.text());
  if (value.list()) return append_list_repr(heap, out, *value.list());
  if (value.dict()) return append_dict_repr(heap, out, *value.dict());
  if (value.is_undefined()) return out.append("Undefined", kMade);
  if (const Object* object = value.object()) return out.append(object->display(), kMade);
  out.append(scalar_text(value), kMade);
}

Text to_repr(Heap& heap, const Value& value) {
  TextBuilder out(heap);
  append_repr(heap, out, value);
  return out.finish();
}

Text to_text(Heap& heap, const Value& value) {
  if (value.text()) return *value.text();
  if (value.is_undefined()) return {};
  if (value.is_number() || value.is_none()) return Text(scalar_text(value), Origin::kTemplate);
  return to_repr(heap, value);
}

Text escape_html(Heap& heap, const Text& text) {
  static constexpr std::string_view kSpecial = "&<>'\"";
  static constexpr std::string_view kEntities[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
  TextBuilder out(heap);
  text.for_each_run([&](std::string_view piece, Origin origin) {
    for (size_t at = 0; at < piece.size();) {
      const size_t special = std::min(piece.find_first_of(kSpecial, at), piece.size());
      out.append(piece.substr(at, special - at), origin);
      if (special < piece.size()) out.append(kEntities[kSpecial.find(piece[special])], origin);
      at = special + 1;
    }
  });
  return out.finish().as_markup();
}

}  // namespace spate::jinja
