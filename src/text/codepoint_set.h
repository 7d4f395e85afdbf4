// Sets of Unicode code points, as patterns name them: \p{L}, \s, [^\r\n]. Properties are Unicode 15's, from utf8proc.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace spate {

inline constexpr char32_t kLastCodepoint = 0x10FFFF;

struct CodepointRange {
  char32_t first, last;  // inclusive
  bool operator==(const CodepointRange&) const = default;
};

class CodepointSet {
 public:
  CodepointSet() = default;
  explicit CodepointSet(std::vector<CodepointRange> ranges);  // in any order, overlaps allowed
  static CodepointSet single(char32_t codepoint) { return CodepointSet({{codepoint, codepoint}}); }
  static CodepointSet all() { return CodepointSet({{0, kLastCodepoint}}); }

  // White_Space of the Unicode character database: what \s means to the tokenizers' regular expression engines.
  static CodepointSet white_space();
  // A general category ("Lu"), a group of them ("L"), or the script "Han". Empty for any other name.
  static std::optional<CodepointSet> property(std::string_view name);

  CodepointSet united(const CodepointSet& other) const;
  CodepointSet complement() const;
  CodepointSet intersected(const CodepointSet& other) const;

  bool contains(char32_t codepoint) const;
  const std::vector<CodepointRange>& ranges() const { return ranges_; }  // sorted, disjoint, not adjacent
  bool operator==(const CodepointSet&) const = default;

 private:
  std::vector<CodepointRange> ranges_;
};

}  // namespace spate
