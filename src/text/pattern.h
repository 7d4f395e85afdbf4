// Regular expressions over code points, as far as pre-tokenizers use them, compiled to a finite automaton: matching is
// linear in the text and uses no stack, whatever the text is.
//
// Syntax: literals; . is not supported; classes with ranges, ^, nested classes and && (intersection); \s \S \d \r \n \t
// \x{HEX} \p{Property} \P{Property}; groups (?:...) (...) (?i:...); | ; ? * + {n} {n,m} (greedy); lookahead of one
// character (?=X) (?!X), X a class or a single character; $ for the end of the piece.
// Semantics: leftmost-first, as in Perl and Oniguruma: of the alternatives the first that leads to a match wins. Where
// a published pattern has a possessive quantifier, a row writes the greedy one, having seen that what follows it cannot
// match what it gives back.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace spate {

class Pattern {
 public:
  // Error kUsage: a syntax error, an unsupported construct, or an automaton of over 65,000 states.
  static Result<Pattern> compile(std::string_view expression);

  // Scratch of one pass over a text from left to right; grows to the text's length.
  using Trail = std::vector<uint16_t>;

  // End of the match that starts exactly at `begin`, or `begin` where none does (an empty match counts as none).
  // text: code points, at most kLastCodepoint; nothing outside text[begin, end) is seen. trail: empty before the first
  // call on a text, then passed on; begin never decreases from call to call.
  size_t match(std::span<const char32_t> text, size_t begin, size_t end, Trail& trail) const;

  int n_states() const { return static_cast<int>(next_.size() / n_classes_); }

 private:
  Pattern() = default;

  size_t n_classes_ = 0;          // including the last one, which stands for the end of the piece
  std::vector<uint8_t> classes_;  // [kLastCodepoint + 1]: code points that no part of the pattern tells apart
  std::vector<uint32_t> next_;    // [n_states, n_classes_]: next state * 2 + (a match ends before this character)

  friend class PatternCompiler;
};

}  // namespace spate
