// Operations on strings that filters and methods share. Positions and widths count characters; whatever part of the
// input a result is made of keeps its origin.
#pragma once

#include <cstdint>
#include <optional>

#include "jinja/value.h"

namespace spate::jinja {

enum class Case { kUpper, kLower, kCapitalized, kTitle, kSwapped };
Text change_case(Heap& heap, const Text& text, Case to);

enum Side : unsigned { kLeft = 1, kRight = 2, kBothSides = 3 };
// Without the characters of the set at its ends; without a set, without whitespace. Shares the bytes.
Text strip(Heap& heap, const Text& text, const std::optional<Text>& characters, unsigned sides = kBothSides);

// At most `count` times, all where negative. An empty `old` matches before each character and at the end.
Text replace(Heap& heap, const Text& text, const Text& old, const Text& with, int64_t count);

// The first byte at or behind `from`, or the last, where `wanted` begins; npos where it is not. Both pay for their
// work.
size_t find_bytes(Heap& heap, std::string_view text, std::string_view wanted, size_t from = 0);
size_t rfind_bytes(Heap& heap, std::string_view text, std::string_view wanted);

// str.split and str.rsplit; without a separator at runs of whitespace. max_splits < 0: at all.
ListPtr split(Heap& heap, const Text& text, const std::optional<Text>& separator, int64_t max_splits, bool from_right);
ListPtr split_lines(Heap& heap, const Text& text, bool keep_ends);

// As str.center, ljust (text on the left) and rjust.
Text center(Heap& heap, const Text& text, int64_t width, const Text& fill);
Text justify(Heap& heap, const Text& text, int64_t width, const Text& fill, Side side);

Text join(Heap& heap, const Text& separator, const List& items);

// Lines of at most `width` characters, as Python's textwrap.wrap breaks one paragraph.
struct WrapOptions {
  int64_t width = 79;
  bool break_long_words = true, break_on_hyphens = true;
};
ListPtr wrap(Heap& heap, const Text& paragraph, const WrapOptions& options);

}  // namespace spate::jinja
