#include "jinja/text.h"

#include <algorithm>

#include "base/utf8.h"

namespace spate::jinja {

Text::Text(std::string bytes, Origin origin) : size_(bytes.size()) {
  if (bytes.empty()) return;
  auto rep = std::make_shared<Rep>();
  rep->runs.push_back({bytes.size(), origin});
  rep->bytes = std::move(bytes);
  rep_ = std::move(rep);
}

size_t Text::run_at(size_t at) const {
  const std::vector<Run>& runs = rep_->runs;
  if (runs.size() == 1) return 0;
  const auto run =
      std::upper_bound(runs.begin(), runs.end(), at, [](size_t offset, const Run& r) { return offset < r.end; });
  return static_cast<size_t>(run - runs.begin());
}

Text Text::slice(size_t begin, size_t end) const {
  SPATE_CHECK(begin <= end && end <= size_, "bytes {} to {} of a text of {}", begin, end, size_);
  Text result;
  result.markup_ = markup_;
  if (begin == end) return result;
  result.rep_ = rep_;
  result.begin_ = begin_ + begin;
  result.size_ = end - begin;
  return result;
}

Origin Text::origin(size_t begin, size_t end) const {
  if (begin >= end) return Origin::kTemplate;
  size_t at = begin_ + begin;
  for (size_t i = run_at(at); at < begin_ + end; ++i) {
    if (rep_->runs[i].origin == Origin::kRequest) return Origin::kRequest;
    at = rep_->runs[i].end;
  }
  return Origin::kTemplate;
}

Text Text::as_markup(bool markup) const {
  Text result = *this;
  result.markup_ = markup;
  return result;
}

void TextBuilder::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  heap_->step();
  charge_.grow(bytes.size());
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().origin == origin) {
    runs_.back().end = bytes_.size();
    return;
  }
  charge_.grow(sizeof(Run));
  runs_.push_back({bytes_.size(), origin});
}

void TextBuilder::append_codepoint(char32_t codepoint, Origin origin) {
  std::string utf8;
  append_utf8(utf8, codepoint);
  append(utf8, origin);
}

void TextBuilder::append_repeated(const Text& text, int64_t n) {
  if (n <= 0 || text.empty()) return;
  if (static_cast<uint64_t>(n) > heap_->limits().max_memory_bytes / text.size())
    fail_limit("a string of {} bytes repeated {} times is too large", text.size(), n);
  if (text.rep_->runs.size() == 1) {  // all of one origin: no need to look at runs again and again
    std::string block;
    block.reserve(text.size() * static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) block += text.bytes();
    return append(block, text.rep_->runs[0].origin);
  }
  for (int64_t i = 0; i < n; ++i) append(text);
}

Text TextBuilder::finish() {
  Text result;
  if (bytes_.empty()) return result;
  charge_.grow(sizeof(Text::Rep));
  auto rep = std::make_shared<Text::Rep>(Text::Rep{std::move(bytes_), std::move(runs_), std::move(charge_)});
  result.size_ = rep->bytes.size();
  result.rep_ = std::move(rep);
  return result;
}

std::pair<std::string, std::vector<Run>> TextBuilder::finish_plain() {
  return {std::move(bytes_), std::move(runs_)};
}

}  // namespace spate::jinja
