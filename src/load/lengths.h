// How long the prompts and answers of a load are.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

#include "load/random.h"

namespace spate::load {

inline constexpr int kMaxLength = 10'000'000;  // tokens

// A distribution of lengths in tokens, each from 1 to kMaxLength.
class Lengths {
 public:
  // "512" or "fixed:512"; "uniform:100-900", both ends included; "exponential:512", the mean; "lognormal:512,0.8", the
  // median and the deviation of the natural logarithm. The last two may end with ",MAX": what is longer becomes MAX.
  // Error kUsage.
  static Result<Lengths> parse(std::string_view text);
  static Lengths fixed(int n_tokens) { return Lengths(Kind::kFixed, n_tokens, n_tokens, 0, std::to_string(n_tokens)); }

  int draw(Random& random) const;
  // As it was written.
  const std::string& text() const { return text_; }

 private:
  enum class Kind { kFixed, kUniform, kExponential, kLognormal };
  Lengths(Kind kind, double location, int max, double deviation, std::string text)
      : kind_(kind), location_(location), deviation_(deviation), max_(max), text_(std::move(text)) {}

  Kind kind_;
  double location_;   // the length, the smallest, the mean, the median
  double deviation_;  // of the logarithm
  int max_;
  std::string text_;
};

}  // namespace spate::load
