// Filters on text.
#include <algorithm>
#include <charconv>

#include "base/utf8.h"
#include "jinja/filter_support.h"
#include "jinja/format.h"
#include "jinja/text_ops.h"
#include "jinja/to_json.h"
#include "jinja/unicode.h"

namespace spate::jinja {

Value filter_capitalize(SPATE_JINJA_PARAMETERS) {
  return change_case(interpreter.heap(), subject_text(interpreter, subject), Case::kCapitalized);
}

Value filter_lower(SPATE_JINJA_PARAMETERS) {
  return change_case(interpreter.heap(), subject_text(interpreter, subject), Case::kLower);
}

Value filter_upper(SPATE_JINJA_PARAMETERS) {
  return change_case(interpreter.heap(), subject_text(interpreter, subject), Case::kUpper);
}

// Words begin after whitespace, dashes and opening brackets only: unlike str.title, "don't" stays one.
Value filter_title(SPATE_JINJA_PARAMETERS) {
  const Text text = subject_text(interpreter, subject);
  TextBuilder out(interpreter.heap());
  std::string mapped;
  bool at_word_begin = true;
  for_each_character(interpreter.heap(), text.bytes(), [&](const Character& character) {
    const char32_t c = character.codepoint;
    mapped.clear();
    if (!character.valid)
      mapped = character.bytes;
    else if (at_word_begin)
      append_upper(mapped, c);
    else
      append_lower(mapped, c);
    out.append(mapped, text.origin(character.offset, character.offset + character.bytes.size()));
    at_word_begin = is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  });
  return out.finish();
}

Value filter_center(SPATE_JINJA_PARAMETERS) {
  return center(interpreter.heap(), subject_text(interpreter, subject), arguments.integer(0, 80), literal(" "));
}

Value filter_escape(SPATE_JINJA_PARAMETERS) {
  if (subject.text() && subject.text()->is_markup()) return subject;
  return escape_html(interpreter.heap(), subject_text(interpreter, subject));
}

Value filter_forceescape(SPATE_JINJA_PARAMETERS) {
  return escape_html(interpreter.heap(), subject_text(interpreter, subject));
}

Value filter_safe(SPATE_JINJA_PARAMETERS) {
  return subject_text(interpreter, subject).as_markup();
}

Value filter_string(SPATE_JINJA_PARAMETERS) {
  return subject_text(interpreter, subject);
}

Value filter_format(SPATE_JINJA_PARAMETERS) {
  const Arguments& values = arguments.all();
  if (!values.positional.empty() && !values.named.empty())
    fail("'format' cannot take positional and named arguments at the same time");
  Value given;
  if (!values.named.empty()) {
    auto dict = std::make_shared<Dict>(&interpreter.heap());
    for (const auto& [name, value] : values.named) dict->set(name, value);
    given = std::move(dict);
  } else {
    auto tuple = new_list(interpreter, List::Kind::kTuple);
    for (const Value& value : values.positional) tuple->push(value);
    given = std::move(tuple);
  }
  return percent_format(interpreter.heap(), subject_text(interpreter, subject), given);
}

Value filter_indent(SPATE_JINJA_PARAMETERS) {
  if (subject.is_undefined()) subject.fail_undefined();
  if (!subject.text()) fail("'indent' needs a string, not '{}'", subject.type_name());
  Heap& heap = interpreter.heap();
  Text indentation;
  if (arguments.has(0) && arguments[0].text()) {
    indentation = arguments.text(0);
  } else {
    TextBuilder spaces(heap);
    spaces.append_repeated(literal(" "), arguments.integer(0, 4));
    indentation = spaces.finish();
  }
  const bool first = arguments.flag(1, false), blank = arguments.flag(2, false);
  TextBuilder ended(heap);
  ended.append(*subject.text());
  ended.append("\n", Origin::kTemplate);  // so that a newline at the end begins one more, empty, line
  const ListPtr lines = split_lines(heap, ended.finish(), false);
  TextBuilder out(heap);
  for (size_t i = 0; i < lines->size(); ++i) {
    const Text& line = *(*lines)[i].text();
    if (i > 0) out.append("\n", Origin::kTemplate);
    if (i == 0 ? first : (blank || !line.empty())) out.append(indentation);
    out.append(line);
  }
  return out.finish();
}

Value filter_replace(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  return replace(heap, subject_text(interpreter, subject), to_text(heap, arguments[0]), to_text(heap, arguments[1]),
                 arguments.optional_integer(2).value_or(-1));
}

Value filter_trim(SPATE_JINJA_PARAMETERS) {
  return strip(interpreter.heap(), subject_text(interpreter, subject), arguments.optional_text(0));
}

Value filter_truncate(SPATE_JINJA_PARAMETERS) {
  if (subject.is_undefined()) return subject;
  if (!subject.text()) fail("'truncate' needs a string, not '{}'", subject.type_name());
  const Text& text = *subject.text();
  const Text end = arguments.has(2) ? arguments.text(2) : literal("...");
  const int64_t length = arguments.integer(0, 255), leeway = arguments.optional_integer(3).value_or(5);
  const int64_t end_length = length_of(interpreter.heap(), end);
  if (length < end_length) fail("'truncate' to {} characters leaves no room for the end's {}", length, end_length);
  if (leeway < 0) fail("the leeway of 'truncate' is {}: it cannot be negative", leeway);
  const int64_t size = length_of(interpreter.heap(), subject);
  if (size <= length || size - length <= leeway) return subject;
  Text kept =
      text.slice(0, character_offset(interpreter.heap(), text.bytes(), static_cast<size_t>(length - end_length)));
  if (!arguments.flag(1, false)) {
    const size_t space = kept.bytes().rfind(' ');
    if (space != std::string_view::npos) kept = kept.slice(0, space);
  }
  TextBuilder out(interpreter.heap());
  out.append(kept);
  out.append(end);
  return out.finish();
}

Value filter_wordcount(SPATE_JINJA_PARAMETERS) {
  int64_t n = 0;
  bool in_word = false;
  const Text text = subject_text(interpreter, subject);
  for_each_character(interpreter.heap(), text.bytes(), [&](const Character& character) {
    const char32_t c = character.codepoint;
    const bool is_part = character.valid && (c == '_' || is_alpha(c) || is_numeric(c));
    n += is_part && !in_word;
    in_word = is_part;
  });
  return n;
}

Value filter_wordwrap(SPATE_JINJA_PARAMETERS) {
  if (!subject.text()) fail("'wordwrap' needs a string, not '{}'", subject.type_name());
  Heap& heap = interpreter.heap();
  const WrapOptions options{.width = arguments.integer(0, 79),
                            .break_long_words = arguments.flag(1, true),
                            .break_on_hyphens = arguments.flag(3, true)};
  const Text separator = arguments.optional_text(2).value_or(literal("\n"));
  auto paragraphs = new_list(interpreter);
  const ListPtr lines = split_lines(heap, *subject.text(), false);
  for (const Value& line : lines->items()) paragraphs->push(join(heap, separator, *wrap(heap, *line.text(), options)));
  return join(heap, separator, *paragraphs);
}

Value filter_tojson(SPATE_JINJA_PARAMETERS) {
  return to_json(interpreter.heap(), subject, json_style(arguments));
}

// ---- HTML and URLs

Value filter_xmlattr(SPATE_JINJA_PARAMETERS) {
  const Dict* dict = subject.dict();
  if (!dict) fail("'xmlattr' needs a mapping, not '{}'", subject.type_name());
  Heap& heap = interpreter.heap();
  TextBuilder out(heap);
  for (const Dict::Entry& entry : dict->entries()) {
    if (entry.value.is_none() || entry.value.is_undefined()) continue;
    const Text key = to_text(heap, entry.key);
    if (key.bytes().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos)
      fail("invalid character in the attribute name {}", quote(key.bytes()));
    if (out.size() > 0 || arguments.flag(0, true)) out.append(" ", Origin::kTemplate);
    out.append(escape_html(heap, key));
    out.append("=\"", Origin::kTemplate);
    out.append(*filter_escape(interpreter, entry.value, arguments).text());
    out.append("\"", Origin::kTemplate);
  }
  return out.finish();
}

namespace {

void append_url_quoted(TextBuilder& out, const Text& text, bool in_query) {
  text.for_each_run([&](std::string_view piece, Origin origin) {
    for (const char c : piece) {
      const unsigned char byte = static_cast<unsigned char>(c);
      const bool is_plain = (byte < 0x80 && std::isalnum(byte)) || c == '_' || c == '.' || c == '-' || c == '~' ||
                            (c == '/' && !in_query);
      if (is_plain)
        out.append({&c, 1}, origin);
      else if (c == ' ' && in_query)
        out.append("+", origin);
      else
        out.append(fmt::format("%{:02X}", byte), origin);
    }
  });
}

struct Entity {
  std::string_view name;
  char32_t codepoint;
};
constexpr Entity kEntities[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}, {"nbsp", 0xA0}};

// The character that `&...;` stands for, where it is a number or one of the common names.
std::optional<char32_t> entity_character(std::string_view name) {
  for (const Entity& entity : kEntities)
    if (entity.name == name) return entity.codepoint;
  if (!name.starts_with('#')) return std::nullopt;
  const bool is_hex = name.size() > 1 && (name[1] | 32) == 'x';
  name.remove_prefix(is_hex ? 2 : 1);
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), code, is_hex ? 16 : 10);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return kReplacementCharacter;
  return static_cast<char32_t>(code);
}

Text unescape_html(Heap& heap, const Text& text) {
  constexpr size_t kMaxName = 10;
  const std::string_view bytes = text.bytes();
  TextBuilder out(heap);
  for (size_t at = 0; at < bytes.size();) {
    const size_t ampersand = std::min(bytes.find('&', at), bytes.size());
    out.append(text, at, ampersand);
    at = ampersand;
    if (at == bytes.size()) break;
    const size_t semicolon = bytes.substr(at, kMaxName).find(';');
    const std::optional<char32_t> c =
        semicolon == std::string_view::npos ? std::nullopt : entity_character(bytes.substr(at + 1, semicolon - 1));
    const size_t end = at + (c ? semicolon + 1 : 1);
    if (c)
      out.append_codepoint(*c, text.origin(at, end));
    else
      out.append(text, at, end);
    at = end;
  }
  return out.finish();
}

// Without what stands between `open` and the next `close`, both included.
Text without_spans(Heap& heap, const Text& text, std::string_view open, std::string_view close) {
  const std::string_view bytes = text.bytes();
  TextBuilder out(heap);
  size_t at = 0;
  for (;;) {
    const size_t begin = bytes.find(open, at);
    const size_t end = begin == std::string_view::npos ? begin : bytes.find(close, begin + open.size());
    if (end == std::string_view::npos) break;
    out.append(text, at, begin);
    at = end + close.size();
  }
  out.append(text, at, bytes.size());
  return out.finish();
}

}  // namespace

Value filter_striptags(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  Text text = without_spans(heap, subject_text(interpreter, subject), "<!--", "-->");
  text = without_spans(heap, text, "<", ">");
  return unescape_html(heap, join(heap, literal(" "), *split(heap, text, std::nullopt, -1, false)));
}

Value filter_urlencode(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  TextBuilder out(heap);
  if (subject.text() || !is_iterable(subject)) {
    append_url_quoted(out, to_text(heap, subject), false);
    return out.finish();
  }
  const auto append_pair = [&](const Value& key, const Value& value) {
    if (out.size() > 0) out.append("&", Origin::kTemplate);
    append_url_quoted(out, to_text(heap, key), true);
    out.append("=", Origin::kTemplate);
    append_url_quoted(out, to_text(heap, value), true);
  };
  if (const Dict* dict = subject.dict()) {
    for (const Dict::Entry& entry : dict->entries()) append_pair(entry.key, entry.value);
    return out.finish();
  }
  const ListPtr items = items_of(heap, subject);
  for (const Value& item : items->items()) {
    const ListPtr pair = items_of(heap, item);
    if (pair->size() != 2) fail("'urlencode' of a list needs pairs");
    append_pair((*pair)[0], (*pair)[1]);
  }
  return out.finish();
}

}  // namespace spate::jinja
