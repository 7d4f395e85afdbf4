// Stop strings in a stream of text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spate {

// Finds the first place where a stop string ends, however the stream is cut into pieces, and lets through only text
// that is certainly before it. A Knuth-Morris-Pratt automaton a string: the work is linear in the text.
class StopMatcher {
 public:
  // Each is non-empty UTF-8.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  // Returns the text that `piece` makes certain: all but a tail that may begin a stop string. Of a match, only what
  // stands before it; the rest, and every later piece, is dropped. Pieces of whole characters give whole characters.
  std::string push(std::string_view piece);
  // The text held back, now that nothing follows.
  std::string finish();

  // The stop string that was found. Of several that end at the same byte, the longest.
  const std::optional<std::string>& found() const { return found_; }

 private:
  struct Automaton {
    std::string text;
    std::vector<size_t> failure;  // [text.size()]: longest proper prefix of text[0..i] that is also its suffix
    size_t n_matched = 0;         // longest prefix of the text that the stream ends with
    bool advance(char c);         // true: a whole match
  };

  std::vector<Automaton> automata_;
  std::string held_;  // the stream's tail that may begin a stop string
  std::optional<std::string> found_;
};

}  // namespace spate
