#include "engine/step_times.h"

#include <algorithm>
#include <bit>
#include <climits>

namespace spate {
namespace {

constexpr double kKeep = 0.9;       // of the sums behind a cost, with each step of that length
constexpr double kBelieve = 0.998;  // in costs, with each step of another length: half of it in 350 steps

constexpr double kForget = 0.9;  // what is believed less than this gives way to the first step timed anew

// The power of two above a number of tokens: 2^(result - 1) < n_tokens <= 2^result.
int length_of(int n_tokens) {
  return std::bit_width(static_cast<unsigned>(n_tokens - 1));
}

}  // namespace

size_t StepTimes::index(int n_decodes) {
  const auto power = static_cast<size_t>(std::bit_width(static_cast<unsigned>(n_decodes)) - 1);
  return std::min(power, std::tuple_size_v<decltype(decodes_)> - 1);
}

double StepTimes::decode_seconds(int n_decodes) const {
  const Samples& samples = decodes_[index(n_decodes)];
  const auto n = std::min<int64_t>(samples.n, kDecodeSamples);
  if (n == 0) return 0;
  std::array<double, kDecodeSamples> sorted = samples.seconds;
  std::nth_element(sorted.begin(), sorted.begin() + n / 2, sorted.begin() + n);
  return sorted[n / 2];
}

void StepTimes::record(int n_decodes, int n_prompt_tokens, double seconds) {
  if (n_prompt_tokens == 0) {
    if (n_decodes == 0) return;
    Samples& samples = decodes_[index(n_decodes)];
    samples.seconds[samples.n++ % kDecodeSamples] = seconds;
    samples.n_mixed_since = 0;
    return;
  }
  if (n_decodes > 0) ++decodes_[index(n_decodes)].n_mixed_since;
  const double decode = n_decodes > 0 ? decode_seconds(n_decodes) : 0;
  record_prompt(n_prompt_tokens, std::max(seconds - decode, 0.0), n_decodes > 0);
}

void StepTimes::record_prompt(int n_tokens, double seconds, bool is_mixed) {
  Cost& cost = costs_[static_cast<size_t>(length_of(n_tokens))];
  if (cost.is_mixed && !is_mixed) return;
  if (is_mixed) {
    for (Cost& other : costs_)
      if (&other != &cost) other.belief *= kBelieve;
    if (!cost.is_mixed || cost.belief < kForget) cost = {.is_mixed = true};
  }
  cost.belief = 1;
  cost.seconds = kKeep * cost.seconds + seconds;
  cost.tokens = kKeep * cost.tokens + n_tokens;
}

// What is known of chunks of up to 2^length tokens, or else of longer, or else of half as long ones; null: nothing.
const StepTimes::Cost* StepTimes::cost_of(int length) const {
  for (int known = length; known < kLengths; ++known)
    if (costs_[static_cast<size_t>(known)].tokens > 0) return &costs_[static_cast<size_t>(known)];
  const Cost& shorter = costs_[static_cast<size_t>(std::max(length - 1, 0))];
  return shorter.tokens > 0 ? &shorter : nullptr;
}

double StepTimes::prompt_cost(int n_prompt_tokens) const {
  const Cost* cost = cost_of(length_of(n_prompt_tokens));
  return cost != nullptr ? cost->believed_seconds() / cost->tokens : 0;
}

int StepTimes::n_prompt_tokens_beside(int n_decodes, int n_wanted) const {
  if (limit_ <= 0) return INT_MAX;
  const Samples& samples = decodes_[index(n_decodes)];
  if (samples.n < kFewestSamples || samples.n_mixed_since >= kFreshSteps) return 0;
  const double seconds = std::max(limit_ - 1, 0.0) * decode_seconds(n_decodes);
  bool is_known = false;
  int longest = kLeastChunk;
  for (int length = 0; length < kLengths - 1; ++length) {
    const Cost* cost = cost_of(length);
    if (cost == nullptr) continue;
    is_known = true;
    const double most = static_cast<double>(int64_t{1} << length);
    if (most / 2 >= n_wanted) break;
    const double known = cost->believed_seconds();
    const double fitting = seconds * cost->tokens < most * known ? seconds * cost->tokens / known : most;
    if (fitting > most / 2) longest = std::max(longest, static_cast<int>(fitting));
  }
  return is_known ? longest : kFirstChunk;
}

}  // namespace spate
