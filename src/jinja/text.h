// Strings that know where their bytes come from. A rendered prompt mixes what the template's author wrote with what a
// user sent, and only the former may become control tokens. So each byte carries its origin through every operation of
// the language, as runs beside the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/heap.h"

namespace spate::jinja {

enum class Origin : uint8_t {
  kRequest,   // came with the values to render, or was made from them
  kTemplate,  // a literal or plain text of the template
};

// The weaker of two: what is made from both counts as the request's.
inline Origin weaker(Origin a, Origin b) {
  return a == Origin::kTemplate ? b : a;
}

// Bytes up to `end` (exclusive) since the previous run's end.
struct Run {
  size_t end;
  Origin origin;
  bool operator==(const Run&) const = default;
};

// An immutable string; copies and slices share the bytes.
class Text {
 public:
  Text() = default;
  Text(std::string bytes, Origin origin);

  std::string_view bytes() const {
    return rep_ ? std::string_view(rep_->bytes).substr(begin_, size_) : std::string_view();
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Bytes [begin, end) of this text. O(1).
  Text slice(size_t begin, size_t end) const;

  // Calls fn(std::string_view piece, Origin origin) over the text in order; neighbouring pieces differ in origin.
  template <typename Fn>
  void for_each_run(Fn&& fn) const;
  // Of the bytes [begin, end), the weakest; of none, the template's.
  Origin origin(size_t begin, size_t end) const;
  Origin origin() const { return origin(0, size_); }

  // Set by the filters `safe` and `escape`: the text is HTML already, and `+` escapes what it is joined with. Slices
  // and changes of case keep it.
  bool is_markup() const { return markup_; }
  Text as_markup(bool markup = true) const;

 private:
  friend class TextBuilder;
  struct Rep {
    std::string bytes;
    std::vector<Run> runs;  // the last ends at bytes.size()
    MemoryCharge charge;
  };
  // The run that holds byte `at` of rep_.
  size_t run_at(size_t at) const;

  std::shared_ptr<const Rep> rep_;
  size_t begin_ = 0, size_ = 0;  // within rep_
  bool markup_ = false;
};

// Puts a text together; accounts for it in the heap while it grows.
class TextBuilder {
 public:
  explicit TextBuilder(Heap& heap) : heap_(&heap), charge_(&heap) {}

  size_t size() const { return bytes_.size(); }
  std::string_view bytes() const { return bytes_; }

  void append(std::string_view bytes, Origin origin);
  void append(const Text& text) {
    text.for_each_run([&](std::string_view piece, Origin origin) { append(piece, origin); });
  }
  void append(const Text& text, size_t begin, size_t end) { append(text.slice(begin, end)); }
  void append_codepoint(char32_t codepoint, Origin origin);
  // n times; fails before it allocates where that is too much.
  void append_repeated(const Text& text, int64_t n);

  // Each once; the builder is empty afterwards.
  Text finish();
  std::pair<std::string, std::vector<Run>> finish_plain();

 private:
  Heap* heap_;
  MemoryCharge charge_;
  std::string bytes_;
  std::vector<Run> runs_;
};

template <typename Fn>
void Text::for_each_run(Fn&& fn) const {
  if (size_ == 0) return;
  const size_t end = begin_ + size_;
  size_t at = begin_;
  for (size_t i = run_at(at); at < end; ++i) {
    const Run& run = rep_->runs[i];
    const size_t stop = run.end < end ? run.end : end;
    fn(std::string_view(rep_->bytes).substr(at, stop - at), run.origin);
    at = stop;
  }
}

}  // namespace spate::jinja
