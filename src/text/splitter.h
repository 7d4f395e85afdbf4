// Cuts text into the pieces that byte-level merges may not cross, by a row of text/pre_tokenizers.h.
#pragma once

#include <string_view>
#include <vector>

#include "text/codepoint_set.h"
#include "text/pattern.h"
#include "text/pre_tokenizers.h"

namespace spate {

// Immutable once made; split may be called from several threads at once.
class Splitter {
 public:
  // Compiles the row's patterns. row outlives this.
  explicit Splitter(const PreTokenizer& row);

  // The pieces of any bytes, in order; together they are the text. A sequence that is not valid UTF-8 counts as
  // U+FFFD. Linear in the text.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Step {
    SplitStep::Kind kind;
    std::vector<Pattern> pattern;  // one, or none for thousands
    CodepointSet digits;           // thousands only
  };
  using Text = std::vector<char32_t>;
  using Ends = std::vector<size_t>;  // of the pieces, in code points, ascending

  static Ends apply(const Step& step, const Text& text, const Ends& pieces);
  static void cut_matches(const Pattern& pattern, const Text& text, size_t begin, size_t end, Pattern::Trail& trail,
                          Ends& out);
  static void cut_thousands(const Step& step, const Text& text, size_t begin, size_t end, Ends& out);

  std::vector<Step> steps_;
};

}  // namespace spate
