#include "text/codepoint_set.h"

#include <algorithm>
#include <utf8proc.h>

namespace spate {

namespace {

// Script=Han of Unicode 15 (Scripts.txt); utf8proc knows no scripts.
constexpr CodepointRange kHan[] = {
    {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},
    {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},
    {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3}, {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739},
    {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2F800, 0x2FA1D}, {0x30000, 0x3134A},
    {0x31350, 0x323AF},
};

// White_Space of Unicode 15 (PropList.txt).
constexpr CodepointRange kWhiteSpace[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

struct CategoryRun {
  CodepointRange range;
  std::string_view category;  // two letters
};

// All code points as runs of one general category: some 3,300, so that building a set does not visit 1.1 million.
const std::vector<CategoryRun>& category_runs() {
  static const std::vector<CategoryRun> runs = [] {
    std::vector<CategoryRun> found;
    utf8proc_category_t previous = UTF8PROC_CATEGORY_CN;
    for (char32_t c = 0; c <= kLastCodepoint; ++c) {
      const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
      if (c > 0 && category == previous) {
        found.back().range.last = c;
      } else {
        found.push_back({{c, c}, utf8proc_category_string(static_cast<utf8proc_int32_t>(c))});
        previous = category;
      }
    }
    return found;
  }();
  return runs;
}

}  // namespace

CodepointSet::CodepointSet(std::vector<CodepointRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const CodepointRange& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1)
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    else
      ranges_.push_back(range);
  }
}

CodepointSet CodepointSet::white_space() {
  return CodepointSet(std::vector<CodepointRange>(std::begin(kWhiteSpace), std::end(kWhiteSpace)));
}

std::optional<CodepointSet> CodepointSet::property(std::string_view name) {
  if (name == "Han") return CodepointSet(std::vector<CodepointRange>(std::begin(kHan), std::end(kHan)));
  if (name.empty() || name.size() > 2) return std::nullopt;
  std::vector<CodepointRange> ranges;
  for (const CategoryRun& run : category_runs())
    if (run.category.starts_with(name)) ranges.push_back(run.range);
  if (ranges.empty()) return std::nullopt;
  return CodepointSet(std::move(ranges));
}

CodepointSet CodepointSet::united(const CodepointSet& other) const {
  std::vector<CodepointRange> ranges = ranges_;
  ranges.insert(ranges.end(), other.ranges_.begin(), other.ranges_.end());
  return CodepointSet(std::move(ranges));
}

CodepointSet CodepointSet::complement() const {
  CodepointSet out;
  char32_t next = 0;
  for (const CodepointRange& range : ranges_) {
    if (range.first > next) out.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodepoint) out.ranges_.push_back({next, kLastCodepoint});
  return out;
}

CodepointSet CodepointSet::intersected(const CodepointSet& other) const {
  return complement().united(other.complement()).complement();
}

bool CodepointSet::contains(char32_t codepoint) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), codepoint,
                                      [](char32_t c, const CodepointRange& range) { return c < range.first; });
  return after != ranges_.begin() && codepoint <= std::prev(after)->last;
}

}  // namespace spate
