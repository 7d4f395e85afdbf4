#include "jinja/text_ops.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "jinja/operators.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

void append_case(std::string& out, char32_t c, Case to, bool first, bool after_letter) {
  switch (to) {
    case Case::kUpper:
      return append_upper(out, c);
    case Case::kLower:
      return append_lower(out, c);
    case Case::kCapitalized:
      return first ? append_title(out, c) : append_lower(out, c);
    case Case::kTitle:
      return after_letter ? append_lower(out, c) : append_title(out, c);
    case Case::kSwapped:
      return is_upper(c) ? append_lower(out, c) : append_upper(out, c);
  }
}

}  // namespace

Text change_case(Heap& heap, const Text& text, Case to) {
  TextBuilder out(heap);
  std::string mapped;
  bool first = true, after_letter = false;
  for_each_character(heap, text.bytes(), [&](const Character& character) {
    const Origin origin = text.origin(character.offset, character.offset + character.bytes.size());
    mapped.clear();
    if (character.valid)
      append_case(mapped, character.codepoint, to, first, after_letter);
    else
      mapped = character.bytes;
    out.append(mapped, origin);
    first = false;
    after_letter = character.valid && (is_upper(character.codepoint) || is_lower(character.codepoint));
  });
  return out.finish().as_markup(text.is_markup());
}

Text strip(Heap& heap, const Text& text, const std::optional<Text>& characters, unsigned sides) {
  std::u32string set;
  if (characters)
    for_each_character(heap, characters->bytes(), [&](const Character& character) { set += character.codepoint; });
  const auto in_set = [&](char32_t c) {
    heap.step();
    heap.scan(set.size());
    return characters ? set.find(c) != std::u32string::npos : is_space(c);
  };
  const std::string_view bytes = text.bytes();
  const size_t end = (sides & kRight) ? skip_trailing(bytes, in_set) : bytes.size();
  const size_t begin = (sides & kLeft) ? skip_leading(bytes.substr(0, end), in_set) : 0;
  return text.slice(begin, end);
}

Text replace(Heap& heap, const Text& text, const Text& old, const Text& with, int64_t count) {
  TextBuilder out(heap);
  const std::string_view bytes = text.bytes();
  size_t at = 0;
  if (old.empty()) {
    for (; count != 0; --count) {
      out.append(with);
      if (at >= bytes.size()) return out.finish();
      const size_t next = at + character_offset(heap, bytes.substr(at), 1);
      out.append(text, at, next);
      at = next;
    }
  } else {
    for (; count != 0; --count) {
      const size_t found = find_bytes(heap, bytes, old.bytes(), at);
      if (found == std::string_view::npos) break;
      out.append(text, at, found);
      out.append(with);
      at = found + old.size();
    }
    if (at == 0) return text;
  }
  out.append(text, at, bytes.size());
  return out.finish();
}

// ---- searching

size_t find_bytes(Heap& heap, std::string_view text, std::string_view wanted, size_t from) {
  heap.step();
  if (wanted.empty() || from >= text.size()) return text.find(wanted, from);
  // Unlike find(), in linear time whatever is looked for.
  const void* found = memmem(text.data() + from, text.size() - from, wanted.data(), wanted.size());
  const size_t at = found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
  heap.read(std::min(at, text.size()) - from);
  heap.scan(wanted.size());  // which is looked at from both ends before the search begins
  return at;
}

size_t rfind_bytes(Heap& heap, std::string_view text, std::string_view wanted) {
  heap.step();
  const size_t at = text.rfind(wanted);
  // At each place it may have compared nearly all of what is looked for.
  const size_t n_places = text.size() - (at == std::string_view::npos ? 0 : at);
  heap.step(static_cast<int64_t>(n_places / 16 * (1 + wanted.size() / 64)));
  return at;
}

// ---- splitting

namespace {

ListPtr split_at_separator(Heap& heap, const Text& text, const Text& separator, int64_t max_splits) {
  if (separator.empty()) fail("the separator to split at is empty");
  auto parts = std::make_shared<List>(&heap);
  size_t at = 0;
  for (; max_splits != 0; --max_splits) {
    const size_t found = find_bytes(heap, text.bytes(), separator.bytes(), at);
    if (found == std::string_view::npos) break;
    parts->push(text.slice(at, found));
    at = found + separator.size();
  }
  parts->push(text.slice(at, text.size()));
  return parts;
}

ListPtr split_at_separator_from_right(Heap& heap, const Text& text, const Text& separator, int64_t max_splits) {
  if (separator.empty()) fail("the separator to split at is empty");
  auto parts = std::make_shared<List>(&heap);
  size_t end = text.size();
  for (; max_splits != 0 && end >= separator.size(); --max_splits) {
    const size_t found = rfind_bytes(heap, text.bytes().substr(0, end), separator.bytes());
    if (found == std::string_view::npos) break;
    parts->push(text.slice(found + separator.size(), end));
    end = found;
  }
  parts->push(text.slice(0, end));
  std::reverse(parts->mutable_items().begin(), parts->mutable_items().end());
  return parts;
}

ListPtr split_at_space(Heap& heap, const Text& text, int64_t max_splits) {
  auto parts = std::make_shared<List>(&heap);
  const auto not_space = [](char32_t c) { return !is_space(c); };
  heap.scan(text.size());
  size_t at = skip_leading(text.bytes(), is_space);
  while (at < text.size()) {
    if (max_splits-- == 0) {
      parts->push(text.slice(at, text.size()));
      break;
    }
    // A byte that is no character ends neither kind of run by itself.
    size_t end = at;
    while (end < text.size()) {
      const size_t more = skip_leading(text.bytes().substr(end), not_space);
      if (more == 0 && skip_leading(text.bytes().substr(end), is_space) > 0) break;
      end += std::max<size_t>(more, 1);
    }
    parts->push(text.slice(at, end));
    at = end + skip_leading(text.bytes().substr(end), is_space);
  }
  return parts;
}

ListPtr split_at_space_from_right(Heap& heap, const Text& text, int64_t max_splits) {
  auto parts = std::make_shared<List>(&heap);
  const std::string_view bytes = text.bytes();
  heap.scan(bytes.size());
  size_t end = skip_trailing(bytes, is_space);
  while (end > 0) {
    if (max_splits-- == 0) {
      parts->push(strip(heap, text.slice(0, end), std::nullopt, kRight));
      break;
    }
    size_t begin = end;
    while (begin > 0) {
      const size_t more = skip_trailing(bytes.substr(0, begin), [](char32_t c) { return !is_space(c); });
      if (more == begin && skip_trailing(bytes.substr(0, begin), is_space) < begin) break;
      begin = more == begin ? begin - 1 : more;
    }
    parts->push(text.slice(begin, end));
    end = skip_trailing(bytes.substr(0, begin), is_space);
  }
  std::reverse(parts->mutable_items().begin(), parts->mutable_items().end());
  return parts;
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

ListPtr split(Heap& heap, const Text& text, const std::optional<Text>& separator, int64_t max_splits, bool from_right) {
  if (!separator)
    return from_right ? split_at_space_from_right(heap, text, max_splits) : split_at_space(heap, text, max_splits);
  return from_right && max_splits >= 0 ? split_at_separator_from_right(heap, text, *separator, max_splits)
                                       : split_at_separator(heap, text, *separator, max_splits);
}

ListPtr split_lines(Heap& heap, const Text& text, bool keep_ends) {
  auto lines = std::make_shared<List>(&heap);
  const std::string_view bytes = text.bytes();
  size_t begin = 0;
  for_each_character(heap, bytes, [&](const Character& character) {
    if (!character.valid || !is_line_end(character.codepoint)) return;
    if (character.offset < begin) return;  // the second half of "\r\n"
    size_t next = character.offset + character.bytes.size();
    if (character.codepoint == '\r' && bytes.substr(next).starts_with('\n')) ++next;
    lines->push(text.slice(begin, keep_ends ? next : character.offset));
    begin = next;
  });
  if (begin < text.size()) lines->push(text.slice(begin, text.size()));
  return lines;
}

// ---- padding and joining

namespace {
Text pad(Heap& heap, const Text& text, int64_t n_left, int64_t n_right, const Text& fill) {
  if (count_characters(heap, fill.bytes()) != 1) fail("the fill character must be exactly one character long");
  TextBuilder out(heap);
  out.append_repeated(fill, n_left);
  out.append(text);
  out.append_repeated(fill, n_right);
  return out.finish();
}

int64_t missing_width(Heap& heap, const Text& text, int64_t width) {
  return std::max<int64_t>(0, width - static_cast<int64_t>(count_characters(heap, text.bytes())));
}
}  // namespace

Text center(Heap& heap, const Text& text, int64_t width, const Text& fill) {
  const int64_t padding = missing_width(heap, text, width);
  const int64_t n_left = padding / 2 + (padding & width & 1);
  return pad(heap, text, n_left, padding - n_left, fill);
}

Text justify(Heap& heap, const Text& text, int64_t width, const Text& fill, Side side) {
  const int64_t padding = missing_width(heap, text, width);
  return pad(heap, text, side == kRight ? padding : 0, side == kLeft ? padding : 0, fill);
}

Text join(Heap& heap, const Text& separator, const List& items) {
  TextBuilder out(heap);
  for (size_t i = 0; i < items.size(); ++i) {
    heap.step();
    if (i > 0) out.append(separator);
    out.append(to_text(heap, items[i]));
  }
  return out.finish();
}

}  // namespace spate::jinja
