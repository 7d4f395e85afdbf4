// Methods of strings that are no filters.
#include <algorithm>

#include "jinja/filter_support.h"
#include "jinja/format.h"
#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {

Value method_casefold(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  // Full folding of what expands (sharp s to ss): upper case, then lower.
  return change_case(heap, change_case(heap, *subject.text(), Case::kUpper), Case::kLower);
}
Value method_swapcase(SPATE_JINJA_PARAMETERS) {
  return change_case(interpreter.heap(), *subject.text(), Case::kSwapped);
}
Value method_title(SPATE_JINJA_PARAMETERS) {
  return change_case(interpreter.heap(), *subject.text(), Case::kTitle);
}

// ---- searching

namespace {

// A part of a string by the optional character positions in arguments 1 and 2, as s[start:end] has them.
struct Span {
  std::string_view bytes;
  size_t begin;       // of the part, bytes from the string's first
  bool valid = true;  // false where start lies behind the string's end: nothing is found there, not even nothing
};

Span span_of(Heap& heap, const Text& text, const BoundArguments& arguments) {
  const std::string_view bytes = text.bytes();
  if (arguments[1].is_none() && arguments[2].is_none()) return {bytes, 0};
  const int64_t size = static_cast<int64_t>(count_characters(heap, bytes));
  const auto position = [size](std::optional<int64_t> given, int64_t absent) {
    const int64_t at = given.value_or(absent);
    return at < 0 ? std::max<int64_t>(0, at + size) : at;
  };
  const int64_t start = position(arguments.optional_integer(1), 0);
  const int64_t stop = std::min(position(arguments.optional_integer(2), size), size);
  if (start > size || start > stop) return {{}, 0, false};
  const size_t begin = character_offset(heap, bytes, static_cast<size_t>(start));
  return {bytes.substr(begin, character_offset(heap, bytes.substr(begin), static_cast<size_t>(stop - start))), begin};
}

// The character index of the first or last occurrence, -1 for none.
int64_t find_in(Heap& heap, const Text& text, const BoundArguments& arguments, bool last) {
  const Span span = span_of(heap, text, arguments);
  const Text sub = arguments.text(0);
  if (!span.valid) return -1;
  const size_t at = last ? rfind_bytes(heap, span.bytes, sub.bytes()) : find_bytes(heap, span.bytes, sub.bytes());
  if (at == std::string_view::npos) return -1;
  return static_cast<int64_t>(count_characters(heap, text.bytes().substr(0, span.begin + at)));
}

int64_t require_found(int64_t index) {
  if (index < 0) fail("substring not found");
  return index;
}

// prefix or suffix: a string, or a tuple of which any will do.
bool has_affix(Heap& heap, const Text& text, const BoundArguments& arguments, bool at_end) {
  const Span span = span_of(heap, text, arguments);
  const auto matches = [&](const Value& affix) {
    if (affix.is_undefined()) affix.fail_undefined();
    if (!affix.text())
      fail("'{}' needs a string or a tuple of strings, not '{}'", arguments.function(), affix.type_name());
    const std::string_view bytes = affix.text()->bytes();
    heap.step();
    heap.read(bytes.size());
    return span.valid && (at_end ? span.bytes.ends_with(bytes) : span.bytes.starts_with(bytes));
  };
  const List* tuple = arguments[0].list();
  if (!tuple || tuple->kind() != List::Kind::kTuple) return matches(arguments[0]);
  return std::any_of(tuple->items().begin(), tuple->items().end(), matches);
}

}  // namespace

Value method_find(SPATE_JINJA_PARAMETERS) {
  return find_in(interpreter.heap(), *subject.text(), arguments, false);
}
Value method_rfind(SPATE_JINJA_PARAMETERS) {
  return find_in(interpreter.heap(), *subject.text(), arguments, true);
}
Value method_str_index(SPATE_JINJA_PARAMETERS) {
  return require_found(find_in(interpreter.heap(), *subject.text(), arguments, false));
}
Value method_rindex(SPATE_JINJA_PARAMETERS) {
  return require_found(find_in(interpreter.heap(), *subject.text(), arguments, true));
}
Value method_startswith(SPATE_JINJA_PARAMETERS) {
  return has_affix(interpreter.heap(), *subject.text(), arguments, false);
}
Value method_endswith(SPATE_JINJA_PARAMETERS) {
  return has_affix(interpreter.heap(), *subject.text(), arguments, true);
}

Value method_str_count(SPATE_JINJA_PARAMETERS) {
  Heap& heap = interpreter.heap();
  const Span span = span_of(heap, *subject.text(), arguments);
  const Text sub = arguments.text(0);
  if (!span.valid) return 0;
  if (sub.empty()) return static_cast<int64_t>(count_characters(heap, span.bytes)) + 1;
  int64_t n = 0;
  for (size_t at = find_bytes(heap, span.bytes, sub.bytes()); at != std::string_view::npos;
       at = find_bytes(heap, span.bytes, sub.bytes(), at + sub.size()))
    ++n;
  return n;
}

// ---- classes of characters

namespace {
// Whether there are characters and all are of the class.
bool all_of(Heap& heap, const Value& subject, bool (*is_of_class)(char32_t), bool if_empty = false) {
  bool all = !subject.text()->empty() || if_empty;
  for_each_character(heap, subject.text()->bytes(), [&](const Character& character) {
    all = all && character.valid && is_of_class(character.codepoint);
  });
  return all;
}
}  // namespace

Value method_isalnum(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, [](char32_t c) { return is_alpha(c) || is_numeric(c); });
}
Value method_isalpha(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_alpha);
}
Value method_isascii(SPATE_JINJA_PARAMETERS) {
  return is_ascii(subject.text()->bytes());
}
Value method_isdecimal(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_decimal);
}
Value method_isdigit(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_digit);
}
Value method_isnumeric(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_numeric);
}
Value method_isprintable(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_printable, /*if_empty=*/true);
}
Value method_isspace(SPATE_JINJA_PARAMETERS) {
  return all_of(interpreter.heap(), subject, is_space);
}
Value method_islower(SPATE_JINJA_PARAMETERS) {
  Arguments none;
  return interpreter.apply_test("lower", subject, none);
}
Value method_isupper(SPATE_JINJA_PARAMETERS) {
  Arguments none;
  return interpreter.apply_test("upper", subject, none);
}
// Upper case begins words only, lower case continues them only.
Value method_istitle(SPATE_JINJA_PARAMETERS) {
  bool some = false, all = true, after_letter = false;
  for_each_character(interpreter.heap(), subject.text()->bytes(), [&](const Character& character) {
    const char32_t c = character.codepoint;
    const bool begins = is_upper(c) || is_title(c), continues = is_lower(c);
    all &= !(begins && after_letter) && !(continues && !after_letter);
    some |= begins || continues;
    after_letter = begins || continues;
  });
  return some && all;
}

// ---- padding

namespace {
Text fill_of(const BoundArguments& arguments) {
  return arguments.has(1) ? arguments.text(1) : literal(" ");
}
}  // namespace

Value method_center(SPATE_JINJA_PARAMETERS) {
  return center(interpreter.heap(), *subject.text(), arguments.integer(0), fill_of(arguments));
}
Value method_ljust(SPATE_JINJA_PARAMETERS) {
  return justify(interpreter.heap(), *subject.text(), arguments.integer(0), fill_of(arguments), kLeft);
}
Value method_rjust(SPATE_JINJA_PARAMETERS) {
  return justify(interpreter.heap(), *subject.text(), arguments.integer(0), fill_of(arguments), kRight);
}

Value method_zfill(SPATE_JINJA_PARAMETERS) {
  const Text& text = *subject.text();
  const size_t sign = text.bytes().starts_with('-') || text.bytes().starts_with('+') ? 1 : 0;
  TextBuilder out(interpreter.heap());
  out.append(text, 0, sign);
  out.append(justify(interpreter.heap(), text.slice(sign, text.size()),
                     arguments.integer(0) - static_cast<int64_t>(sign), literal("0"), kRight));
  return out.finish();
}

Value method_expandtabs(SPATE_JINJA_PARAMETERS) {
  const int64_t tab_size = arguments.integer(0, 8);
  const Text& text = *subject.text();
  TextBuilder out(interpreter.heap());
  int64_t column = 0;
  for_each_character(interpreter.heap(), text.bytes(), [&](const Character& character) {
    const size_t end = character.offset + character.bytes.size();
    if (character.codepoint != '\t') {
      column = character.codepoint == '\n' || character.codepoint == '\r' ? 0 : column + 1;
      return out.append(text, character.offset, end);
    }
    if (tab_size <= 0) return;
    const int64_t n = tab_size - column % tab_size;
    out.append_repeated(Text(" ", text.origin(character.offset, end)), n);
    column += n;
  });
  return out.finish();
}

// ---- parts

Value method_lstrip(SPATE_JINJA_PARAMETERS) {
  return strip(interpreter.heap(), *subject.text(), arguments.optional_text(0), kLeft);
}
Value method_rstrip(SPATE_JINJA_PARAMETERS) {
  return strip(interpreter.heap(), *subject.text(), arguments.optional_text(0), kRight);
}

Value method_removeprefix(SPATE_JINJA_PARAMETERS) {
  const Text &text = *subject.text(), prefix = arguments.text(0);
  return text.bytes().starts_with(prefix.bytes()) ? text.slice(prefix.size(), text.size()) : text;
}
Value method_removesuffix(SPATE_JINJA_PARAMETERS) {
  const Text &text = *subject.text(), suffix = arguments.text(0);
  return text.bytes().ends_with(suffix.bytes()) ? text.slice(0, text.size() - suffix.size()) : text;
}

Value method_replace(SPATE_JINJA_PARAMETERS) {
  return replace(interpreter.heap(), *subject.text(), arguments.text(0), arguments.text(1), arguments.integer(2, -1));
}

Value method_split(SPATE_JINJA_PARAMETERS) {
  return split(interpreter.heap(), *subject.text(), arguments.optional_text(0), arguments.integer(1, -1), false);
}
Value method_rsplit(SPATE_JINJA_PARAMETERS) {
  return split(interpreter.heap(), *subject.text(), arguments.optional_text(0), arguments.integer(1, -1), true);
}
Value method_splitlines(SPATE_JINJA_PARAMETERS) {
  return split_lines(interpreter.heap(), *subject.text(), arguments.flag(0, false));
}

namespace {
Value partition(Interpreter& interpreter, const Text& text, const Text& separator, bool last) {
  if (separator.empty()) fail("the separator to split at is empty");
  const size_t at = last ? rfind_bytes(interpreter.heap(), text.bytes(), separator.bytes())
                         : find_bytes(interpreter.heap(), text.bytes(), separator.bytes());
  auto parts = new_list(interpreter, List::Kind::kTuple);
  if (at == std::string_view::npos) {
    for (const Text& part : {last ? Text() : text, Text(), last ? text : Text()}) parts->push(part);
    return parts;
  }
  parts->push(text.slice(0, at));
  parts->push(text.slice(at, at + separator.size()));
  parts->push(text.slice(at + separator.size(), text.size()));
  return parts;
}
}  // namespace

Value method_partition(SPATE_JINJA_PARAMETERS) {
  return partition(interpreter, *subject.text(), arguments.text(0), false);
}
Value method_rpartition(SPATE_JINJA_PARAMETERS) {
  return partition(interpreter, *subject.text(), arguments.text(0), true);
}

// ---- putting together

Value method_join(SPATE_JINJA_PARAMETERS) {
  const ListPtr items = items_of(interpreter.heap(), arguments[0]);
  for (size_t i = 0; i < items->size(); ++i)
    if (!(*items)[i].text()) fail("item {} to join is no string but '{}'", i, (*items)[i].type_name());
  return join(interpreter.heap(), *subject.text(), *items);
}

Value method_format(SPATE_JINJA_PARAMETERS) {
  return brace_format(interpreter, *subject.text(), arguments.all());
}

Value method_format_map(SPATE_JINJA_PARAMETERS) {
  const Dict* dict = arguments[0].dict();
  if (!dict) fail("'format_map' needs a mapping, not '{}'", arguments[0].type_name());
  Arguments values;
  interpreter.heap().step(static_cast<int64_t>(dict->size()));
  for (const Dict::Entry& entry : dict->entries())
    if (entry.key.text()) values.named.emplace_back(*entry.key.text(), entry.value);
  return brace_format(interpreter, *subject.text(), values);
}

}  // namespace spate::jinja
