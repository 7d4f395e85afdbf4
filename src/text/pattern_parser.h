// The syntax tree of a pattern (text/pattern.h). Only pattern.cc uses it.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/codepoint_set.h"

namespace spate {

struct PatternNode {
  enum class Kind {
    kSet,       // one code point of `set`
    kSequence,  // children in order
    kChoice,    // children, the first has priority
    kRepeat,    // children[0], at_least to at_most times, greedy
    kAhead,     // the next code point is in `set`
    kNotAhead,  // there is no next code point, or it is not in `set`
  };
  static constexpr int kUnbounded = -1;

  Kind kind = Kind::kSequence;
  CodepointSet set;
  std::vector<PatternNode> children;
  int at_least = 0, at_most = kUnbounded;
};

// Error kUsage naming the pattern and the offset.
Result<PatternNode> parse_pattern(std::string_view expression);

}  // namespace spate
