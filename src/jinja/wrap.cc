// Python's textwrap for the filter `wordwrap`.
#include <utility>
#include <vector>

#include "jinja/text_ops.h"
#include "jinja/unicode.h"

namespace spate::jinja {
namespace {

bool is_wrap_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == ' ';
}
bool is_word_character(char32_t c) {
  return c == '_' || is_alpha(c) || is_numeric(c);
}
bool is_letter(char32_t c) {
  return c == '_' || is_alpha(c);
}
bool may_precede_dash(char32_t c) {
  return is_word_character(c) || c == '!' || c == '"' || c == '\'' || c == '&' || c == '.' || c == ',' || c == '?';
}

class Wrapper {
 public:
  Wrapper(Heap& heap, const Text& text, const WrapOptions& options)
      : heap_(heap), text_(text), options_(options), charge_(&heap) {
    charge_.grow(text.size() * (sizeof(char32_t) + sizeof(size_t)));
    for_each_character(heap, text.bytes(), [&](const Character& character) {
      characters_.push_back(character.codepoint);
      offsets_.push_back(character.offset);
    });
    offsets_.push_back(text.size());
  }

  ListPtr run() {
    find_chunks();
    auto lines = std::make_shared<List>(&heap_);
    size_t next = 0;
    while (next < chunks_.size()) {
      if (lines->size() > 0 && is_space_chunk(chunks_[next])) ++next;
      if (next >= chunks_.size()) break;
      take_line(next, *lines);
    }
    return lines;
  }

 private:
  struct Chunk {
    size_t begin, end;  // characters
    int64_t width() const { return static_cast<int64_t>(end - begin); }
  };
  bool is_space_chunk(const Chunk& chunk) const {
    for (size_t i = chunk.begin; i < chunk.end; ++i)
      if (!is_space(characters_[i])) return false;
    return true;
  }
  bool is_space_at(size_t i) const { return is_wrap_space(characters_[i]); }
  bool is_letter_at(size_t i) const { return i < characters_.size() && is_letter(characters_[i]); }
  // Two or more dashes at i, then a word.
  size_t dashes_at(size_t i) const {
    size_t end = i;
    while (end < characters_.size() && characters_[end] == '-') ++end;
    return end - i >= 2 && end < characters_.size() && is_word_character(characters_[end]) ? end - i : 0;
  }

  // Where a line may be broken: around whitespace, and within words after hyphens and around long dashes.
  void find_chunks() {
    charge_.grow(sizeof(Chunk));
    for (size_t at = 0; at < characters_.size();) {
      const size_t end = is_space_at(at) ? space_end(at) : word_end(at);
      charge_.grow(sizeof(Chunk));
      chunks_.push_back({at, end});
      at = end;
    }
  }

  size_t space_end(size_t at) const {
    while (at < characters_.size() && is_space_at(at)) ++at;
    return at;
  }

  size_t word_end(size_t begin) const {
    if (!options_.break_on_hyphens) {
      size_t end = begin;
      while (end < characters_.size() && !is_space_at(end)) ++end;
      return end;
    }
    if (begin > 0 && may_precede_dash(characters_[begin - 1]))
      if (const size_t n = dashes_at(begin)) return begin + n;
    for (size_t end = begin + 1;; ++end) {
      if (end >= characters_.size() || is_space_at(end)) return end;
      if (may_precede_dash(characters_[end - 1]) && dashes_at(end)) return end;
      if (end > begin + 1 && characters_[end - 1] == '-' && is_hyphen_break(end)) return end;
    }
  }

  // After a hyphen that follows two letters, or letter-hyphen-letter, and precedes a letter and another.
  bool is_hyphen_break(size_t end) const {
    const size_t hyphen = end - 1;
    const bool before =
        (hyphen >= 2 && is_letter_at(hyphen - 1) && is_letter_at(hyphen - 2)) ||
        (hyphen >= 3 && is_letter_at(hyphen - 1) && characters_[hyphen - 2] == '-' && is_letter_at(hyphen - 3));
    const size_t second = end + (end + 1 < characters_.size() && characters_[end + 1] == '-' ? 2 : 1);
    return before && is_letter_at(end) && is_letter_at(second);
  }

  void take_line(size_t& next, List& lines) {
    const size_t begin = chunks_[next].begin;
    Chunk last{begin, begin};  // the line's last chunk, or part of one
    int64_t width = 0;
    while (next < chunks_.size() && width + chunks_[next].width() <= options_.width) {
      last = chunks_[next++];
      width += last.width();
    }
    if (next < chunks_.size() && chunks_[next].width() > options_.width) {
      if (options_.break_long_words)
        last = cut_chunk(chunks_[next], static_cast<size_t>(options_.width - width));
      else if (width == 0)
        last = chunks_[next++];
    }
    // Whitespace at the end of a line goes.
    const size_t end = is_space_chunk(last) ? last.begin : last.end;
    if (end > begin) lines.push(text_.slice(offsets_[begin], offsets_[end]));
  }

  // Takes the part of a long word that fits n characters; the chunk becomes the rest.
  Chunk cut_chunk(Chunk& chunk, size_t n) {
    size_t cut = chunk.begin + n;
    if (options_.break_on_hyphens) cut = hyphen_cut(chunk, n).value_or(cut);
    return {std::exchange(chunk.begin, cut), cut};
  }

  // The last hyphen within the first n characters of a long word, unless only hyphens stand before it.
  std::optional<size_t> hyphen_cut(const Chunk& chunk, size_t n) const {
    if (chunk.end - chunk.begin <= n) return std::nullopt;
    for (size_t i = chunk.begin + n; i-- > chunk.begin + 1;) {
      if (characters_[i] != '-') continue;
      for (size_t j = chunk.begin; j < i; ++j)
        if (characters_[j] != '-') return i + 1;
      return std::nullopt;
    }
    return std::nullopt;
  }

  Heap& heap_;
  const Text& text_;
  const WrapOptions options_;
  MemoryCharge charge_;
  std::vector<char32_t> characters_;
  std::vector<size_t> offsets_;  // of each character's first byte, and the end
  std::vector<Chunk> chunks_;
};

}  // namespace

ListPtr wrap(Heap& heap, const Text& paragraph, const WrapOptions& options) {
  if (options.width <= 0) fail("the width to wrap at is {}: it must be positive", options.width);
  return Wrapper(heap, paragraph, options).run();
}

}  // namespace spate::jinja
