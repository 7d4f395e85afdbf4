#include "engine/step_times.h"

#include <algorithm>
#include <bit>
#include <climits>

namespace spate {
namespace {

constexpr double kKeep = 0.9;          // of the sums behind the cost of a token, with each step
constexpr double kKeepLongest = 0.98;  // of the longest chunk: halves in 34 steps

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
  const bool is_mixed = n_decodes > 0;
  if (was_mixed_ && !is_mixed) return;
  if (is_mixed && !was_mixed_) cost_seconds_ = cost_tokens_ = longest_chunk_ = 0;
  was_mixed_ = is_mixed;
  if (is_mixed) ++decodes_[index(n_decodes)].n_mixed_since;
  const double decode = is_mixed ? decode_seconds(n_decodes) : 0;
  cost_seconds_ = kKeep * cost_seconds_ + std::max(seconds - decode, 0.0);
  cost_tokens_ = kKeep * cost_tokens_ + n_prompt_tokens;
  longest_chunk_ = std::max(kKeepLongest * longest_chunk_, static_cast<double>(n_prompt_tokens));
}

int StepTimes::n_prompt_tokens_beside(int n_decodes) const {
  if (limit_ <= 0) return INT_MAX;
  const Samples& samples = decodes_[index(n_decodes)];
  if (samples.n < kFewestSamples || samples.n_mixed_since >= kFreshSteps) return 0;
  if (cost_tokens_ == 0) return kFirstChunk;
  const double seconds = std::max(limit_ - 1, 0.0) * decode_seconds(n_decodes);
  const double most = std::max(2 * longest_chunk_, double{kFirstChunk});
  const double wanted = prompt_cost() > 0 ? seconds / prompt_cost() : most;
  return static_cast<int>(std::clamp(wanted, double{kLeastChunk}, most));
}

}  // namespace spate
