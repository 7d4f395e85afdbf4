#include "backend/sampler.h"

#include <algorithm>
#include <cmath>

#include "backend/softmax.h"
#include "base/check.h"

namespace spate {
namespace {

constexpr uint32_t kInContext = 1u << 31;
constexpr uint32_t kTimesGenerated = kInContext - 1;

using softmax::arg_max, softmax::kInfinity, softmax::LogSoftmax, softmax::Peak;

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.key != b.key ? a.key > b.key : a.token < b.token;
}

// The k greatest logits above -infinity, key = logit, in no order. One pass: a buffer of 2k fills with logits above the
// k-th best so far, and is cut to k when full.
void select_top(std::span<const float> logits, size_t k, std::vector<Candidate>& out) {
  const size_t capacity = std::max<size_t>(2 * k, 256);
  const auto cut = [&] {
    std::nth_element(out.begin(), out.begin() + (k - 1), out.end(), ranks_before);
    out.resize(k);
  };
  out.clear();
  float threshold = -kInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > threshold)) continue;
    out.push_back({static_cast<int32_t>(i), logits[i], 0});
    if (out.size() == capacity) {
      cut();
      threshold = out[k - 1].key;
    }
  }
  if (out.size() > k) cut();
}

// The n most likely tokens, most likely first; tokens without probability follow by id where there are fewer.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, const LogSoftmax& model, size_t n,
                                       std::vector<Candidate>& selection) {
  n = std::min(n, logits.size());
  select_top(logits, n, selection);
  std::sort(selection.begin(), selection.end(), ranks_before);
  std::vector<TokenLogprob> top;
  top.reserve(n);
  for (const Candidate& c : selection) top.push_back({c.token, model.logprob(c.key)});
  for (size_t i = 0; top.size() < n; ++i)
    if (!(logits[i] > -kInfinity)) top.push_back({static_cast<int32_t>(i), -kInfinity});
  return top;
}

void by_token(std::vector<Candidate>& candidates) {
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
}

// Temperature, and top-k where it cuts anything: the candidates with their weights, key = logit.
void start_candidates(std::span<const float> logits, float max, const SamplingParams& sampling,
                      std::vector<Candidate>& out) {
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < logits.size()) {
    select_top(logits, sampling.top_k, out);
    by_token(out);
    for (Candidate& c : out) c.weight = softmax::weight(c.key, max, sampling.temperature);
    std::erase_if(out, [](const Candidate& c) { return c.weight == 0; });
    return;
  }
  out.resize(logits.size());
  size_t n_kept = 0;
  softmax::for_each_4(logits, [&](softmax::Float4 four, size_t begin, int) {
    const softmax::Float4 weights = softmax::weights(four, max, sampling.temperature);
    const size_t n = std::min<size_t>(4, logits.size() - begin);
    for (size_t i = 0; i < n; ++i) {
      out[n_kept] = {static_cast<int32_t>(begin + i), four[i], weights[i]};
      n_kept += weights[i] > 0;
    }
  });
  out.resize(n_kept);
}

double total_weight(std::span<const Candidate> candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

// Keeps the fewest candidates, taken by descending key, whose weight reaches `share` of the total; at least one. Those
// lighter than `min_weight` must not be among them. A quickselect by mass: linear, where sorting 152k is not.
void keep_share(std::vector<Candidate>& candidates, double share, double total, double min_weight,
                std::vector<Candidate>& selection) {
  selection.clear();
  for (const Candidate& c : candidates)
    if (c.weight >= min_weight) selection.push_back(c);
  double wanted = share * total;
  auto begin = selection.begin(), end = selection.end();
  while (end - begin > 1) {  // the last one kept is in [begin, end)
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, ranks_before);
    const double mass = total_weight({begin, middle});
    if (mass >= wanted) {
      end = middle;
    } else {
      wanted -= mass;
      begin = middle;
    }
  }
  const Candidate last = *begin;
  std::erase_if(candidates, [&](const Candidate& c) { return ranks_before(last, c); });
}

// Meister et al. 2022: by how far a token's information content lies from the distribution's entropy, nearest first.
void keep_typical(float typical_p, float max, float temperature, SamplerScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  const double total = total_weight(candidates);
  const auto log_total = static_cast<float>(std::log(total));
  double entropy = 0;
  for (Candidate& c : candidates) {
    c.key = (c.key == max ? 0 : (c.key - max) / temperature) - log_total;  // log-probability
    entropy -= c.weight / total * c.key;
  }
  for (Candidate& c : candidates) c.key = -std::abs(c.key + static_cast<float>(entropy));
  keep_share(candidates, typical_p, total, 0, scratch.selection);
}

void keep_nucleus(float top_p, SamplerScratch& scratch) {
  std::vector<Candidate>& candidates = scratch.candidates;
  for (Candidate& c : candidates) c.key = c.weight;
  const double total = total_weight(candidates);
  // All candidates lighter than (1 - top_p) * total / n weigh less than (1 - top_p) * total together, so the heavier
  // ones suffice, and few of 152k are left to select from. Half of that bound, so that rounding cannot matter.
  const double min_weight = 0.5 * (1 - static_cast<double>(top_p)) * total / static_cast<double>(candidates.size());
  keep_share(candidates, top_p, total, min_weight, scratch.selection);
}

void keep_min_p(float min_p, std::vector<Candidate>& candidates) {
  float max = 0;
  for (const Candidate& c : candidates) max = std::max(max, c.weight);
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p * max; });
}

int32_t draw(std::span<const Candidate> candidates, float uniform) {
  const double target = total_weight(candidates) * uniform;
  double sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (sum > target) return c.token;
  }
  return candidates.back().token;
}

int32_t next_token(std::span<const float> logits, Peak peak, const SlotState& state, int64_t position,
                   SamplerScratch& scratch) {
  if (state.changes_logits()) {
    scratch.logits.assign(logits.begin(), logits.end());
    state.apply(scratch.logits);
    logits = scratch.logits;
    peak = arg_max(logits);
  }
  const SamplingParams& sampling = state.sampling();
  if (sampling.temperature == 0 || peak.logit == -kInfinity) return peak.token;
  start_candidates(logits, peak.logit, sampling, scratch.candidates);
  if (sampling.typical_p < 1) keep_typical(sampling.typical_p, peak.logit, sampling.temperature, scratch);
  if (sampling.top_p < 1) keep_nucleus(sampling.top_p, scratch);
  if (sampling.min_p > 0) keep_min_p(sampling.min_p, scratch.candidates);
  return draw(scratch.candidates, uniform_draw(sampling.seed, static_cast<uint64_t>(position)));
}

}  // namespace

std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

float uniform_draw(uint64_t seed, uint64_t position) {
  const auto words = philox4x32_10({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                                   {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return static_cast<float>(words[0] >> 8) * 0x1p-24f;
}

bool SlotState::has_penalties() const {
  return sampling_.repetition_penalty != 1 || sampling_.presence_penalty != 0 || sampling_.frequency_penalty != 0;
}

void SlotState::reset(const SlotOp& op, int vocab_size) {
  for (const int32_t token : seen_) counts_[token] = 0;
  seen_.clear();
  sampling_ = op.sampling;
  logit_bias_ = op.logit_bias;
  n_prompt_tokens_ = op.n_prompt_tokens;
  if (has_penalties()) {
    counts_.resize(vocab_size);
    seen_.reserve(vocab_size);  // so that count() never allocates
  }
  for (size_t i = 0; i < op.history.size(); ++i) count(op.history[i], static_cast<int32_t>(i));
}

void SlotState::count(int32_t token, int32_t position) {
  if (!has_penalties()) return;
  uint32_t& entry = counts_[token];
  if (entry == 0) seen_.push_back(token);
  entry |= kInContext;
  if (position >= n_prompt_tokens_ && (entry & kTimesGenerated) != kTimesGenerated) ++entry;
}

void SlotState::apply(std::span<float> logits) const {
  for (const LogitBias& bias : logit_bias_) logits[bias.token] += bias.bias;
  for (const int32_t token : seen_) {
    float& logit = logits[token];
    logit = logit > 0 ? logit / sampling_.repetition_penalty : logit * sampling_.repetition_penalty;
    const uint32_t times = counts_[token] & kTimesGenerated;
    if (times > 0) logit -= sampling_.presence_penalty + sampling_.frequency_penalty * static_cast<float>(times);
  }
}

RowOutput sample_row(const Row& row, std::span<const float> logits, const SlotState& state, int64_t position,
                     SamplerScratch& scratch) {
  SPATE_CHECK(row.kind == RowKind::kSample || row.kind == RowKind::kScore, "row kind {}", static_cast<int>(row.kind));
  SPATE_CHECK(!logits.empty());
  const LogSoftmax model(logits);
  RowOutput out;
  if (row.n_logprobs > 0) out.top = top_logprobs(logits, model, row.n_logprobs, scratch.selection);
  if (row.kind == RowKind::kScore) {
    out.token = model.peak.token;
    out.logprob = model.logprob(logits[row.target]);
  } else {
    out.token = next_token(logits, model.peak, state, position, scratch);
    out.logprob = model.logprob(logits[out.token]);
  }
  return out;
}

}  // namespace spate
