#include "engine/step_times.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <span>

namespace spate {
namespace {

constexpr int kMostTokens = 1 << 24;  // that lengths are told apart of

// Of an even number of times the lower one: who has two takes the one that no hiccup made longer.
double median(std::span<double> seconds) {
  const auto middle = seconds.begin() + (seconds.size() - 1) / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

// Tokens by eighths of a doubling: each up to 16 by itself, then 17 and 18, ..., 33 to 36, ..., 129 to 144, and so on.
size_t length_of(int n_tokens) {
  const auto before = static_cast<unsigned>(std::min(n_tokens, kMostTokens) - 1);
  const int shift = std::max(static_cast<int>(std::bit_width(before)) - 4, 0);
  return static_cast<size_t>(8 * shift) + (before >> shift);
}

// The most tokens of a length.
int end_of(size_t length) {
  if (length < 16) return static_cast<int>(length) + 1;
  const size_t shift = length / 8 - 1;
  return static_cast<int>((length - 8 * shift + 1) << shift);
}

}  // namespace

size_t StepTimes::index(int n_decodes) {
  const auto power = static_cast<size_t>(std::bit_width(static_cast<unsigned>(n_decodes)) - 1);
  return std::min(power, std::tuple_size_v<decltype(decodes_)> - 1);
}

double StepTimes::decode_seconds(int n_decodes) const {
  Samples samples = decodes_[index(n_decodes)];
  if (samples.n == 0) return 0;
  return median(std::span(samples.seconds).first(static_cast<size_t>(std::min<int64_t>(samples.n, kDecodeSamples))));
}

void StepTimes::record(int n_decodes, int n_prompt_tokens, double seconds) {
  if (n_prompt_tokens == 0) {
    if (n_decodes == 0) return;
    Samples& samples = decodes_[index(n_decodes)];
    samples.seconds[samples.n++ % kDecodeSamples] = seconds;
    samples.n_mixed_since = 0;
    return;
  }
  if (n_decodes > 0) {
    ++decodes_[index(n_decodes)].n_mixed_since;
    ++n_mixed_;
  }
  record_mixed(length_of(n_decodes + n_prompt_tokens), seconds, n_decodes > 0);
}

void StepTimes::record_mixed(size_t length, double seconds, bool is_mixed) {
  Length& kept = lengths_[length];
  if (is_known(length) && kept.is_mixed && !is_mixed) return;
  if (!is_known(length) || kept.is_mixed != is_mixed) kept = {.is_mixed = is_mixed};
  kept.seconds[kept.n++ % kMixedSamples] = seconds;
  kept.timed_at = n_mixed_;
}

bool StepTimes::is_known(size_t length) const {
  return lengths_[length].n > 0 && n_mixed_ - lengths_[length].timed_at <= kRememberedSteps;
}

// A known length; no step is faster than one of its decodes alone.
StepTimes::Point StepTimes::point(size_t length, double decode) const {
  Length kept = lengths_[length];
  const auto n = static_cast<size_t>(std::min<int64_t>(kept.n, kMixedSamples));
  return {end_of(length), std::max(decode, median(std::span(kept.seconds).first(n)))};
}

// That one or the first longer one that is known; kLengths: there is none.
size_t StepTimes::next_known(size_t length) const {
  while (length < kLengths && !is_known(length)) ++length;
  return length;
}

int StepTimes::n_prompt_tokens_beside(int n_decodes, int n_wanted) const {
  if (limit_ <= 0) return INT_MAX;
  const Samples& samples = decodes_[index(n_decodes)];
  if (samples.n < kFewestSamples || samples.n_mixed_since >= kFreshSteps) return 0;
  const Point decode{n_decodes, decode_seconds(n_decodes)};
  const size_t shortest = length_of(n_decodes + std::min(n_wanted, kLeastChunk));
  if (next_known(shortest) == kLengths) return kFirstChunk;

  const int most_tokens = n_decodes + std::min(n_wanted, kMostTokens - n_decodes);
  const double most_seconds = limit_ * decode.seconds;
  const auto on_line = [](const Point& a, const Point& b, int n_tokens) {
    return a.seconds + (b.seconds - a.seconds) * (n_tokens - a.n_tokens) / (b.n_tokens - a.n_tokens);
  };
  int best = kLeastChunk;
  double least_cost = INFINITY;  // seconds a prompt token
  Point below = decode;
  for (size_t length = shortest, above = shortest; length <= length_of(most_tokens); ++length) {
    const int n_tokens = std::min(end_of(length), most_tokens);
    double seconds = 0, at_best = 0;
    above = next_known(std::max(above, length));
    if (above == length) {
      below = point(length, decode.seconds);
      seconds = at_best = below.seconds;
    } else if (above < kLengths) {
      const Point known = point(above, decode.seconds);
      seconds = std::min(on_line(below, known, n_tokens), on_line(decode, known, n_tokens));
      at_best = below.n_tokens > n_decodes ? std::min(seconds, below.seconds) : seconds;
    } else {
      if (n_tokens > 2 * below.n_tokens) break;
      seconds = on_line(decode, below, n_tokens);
    }
    const double cost = at_best / (n_tokens - n_decodes);
    if (seconds > most_seconds || cost > least_cost) continue;
    least_cost = cost;
    best = std::max(n_tokens - n_decodes, kLeastChunk);
  }
  return best;
}

}  // namespace spate
