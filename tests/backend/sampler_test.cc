#include "backend/sampler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <random>
#include <set>

namespace {
std::atomic<int64_t> n_allocations{0};
}

// Out of line: gcc 12 takes an inlined pair for a mismatch of malloc and delete.
[[gnu::noinline]] void* operator new(size_t n_bytes) {
  ++n_allocations;
  if (void* memory = std::malloc(n_bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t n_bytes, const std::nothrow_t&) noexcept {
  ++n_allocations;
  return std::malloc(n_bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace spate {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(int n, uint32_t seed, float scale = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

SlotState slot_state(const SamplingParams& sampling, int vocab_size, std::vector<LogitBias> bias = {},
                     int n_prompt_tokens = 0, std::vector<int32_t> history = {}) {
  SlotState state;
  SlotOp op;
  op.sampling = sampling;
  op.logit_bias = std::move(bias);
  op.n_prompt_tokens = n_prompt_tokens;
  op.history = std::move(history);
  state.reset(op, vocab_size);
  return state;
}

RowOutput sample(std::span<const float> logits, const SamplingParams& sampling, int64_t position = 0,
                 int n_logprobs = 0) {
  SamplerScratch scratch;
  return sample_row({.n_logprobs = n_logprobs}, logits, slot_state(sampling, static_cast<int>(logits.size())), position,
                    scratch);
}

std::vector<double> softmax(std::span<const float> logits, double temperature = 1) {
  double max = -INFINITY;
  for (const float logit : logits) max = std::max<double>(max, logit);
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp((logits[i] - max) / temperature);
  for (double& x : p) x /= sum;
  return p;
}

// What the filters leave, the slow and obvious way: probabilities in float64, full sorts, one filter after another.
std::vector<double> filtered_distribution(std::span<const float> logits, const SamplingParams& sampling) {
  std::vector<double> p = softmax(logits, sampling.temperature);
  const auto keep_first = [&](const std::vector<double>& key, auto enough) {  // by descending key, then token
    std::vector<int> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return key[a] > key[b]; });
    double mass = 0;
    int n_kept = 0;
    for (const int token : order) {
      if (p[token] == 0) continue;
      if (n_kept > 0 && enough(n_kept, mass)) {
        p[token] = 0;
        continue;
      }
      mass += p[token];
      ++n_kept;
    }
    for (double& x : p) x /= mass;
  };
  if (sampling.top_k > 0) keep_first(p, [&](int n_kept, double) { return n_kept >= sampling.top_k; });
  if (sampling.typical_p < 1) {
    double entropy = 0;
    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<double> key(p.size());
    for (size_t i = 0; i < p.size(); ++i) key[i] = p[i] > 0 ? -std::abs(std::log(p[i]) + entropy) : -INFINITY;
    keep_first(key, [&](int, double mass) { return mass >= sampling.typical_p; });
  }
  if (sampling.top_p < 1) keep_first(p, [&](int, double mass) { return mass >= sampling.top_p; });
  const double max = *std::max_element(p.begin(), p.end());
  double mass = 0;
  for (double& x : p) mass += x = x >= sampling.min_p * max ? x : 0;
  for (double& x : p) x /= mass;
  return p;
}

// Draws at positions 0..n_draws-1 and compares the counts with the distribution by Pearson's chi-square. Tokens
// expected fewer than 5 times are pooled; a token of probability 0 must never come.
void expect_draws_follow(const std::vector<double>& p, std::span<const float> logits, const SamplingParams& sampling,
                         int n_draws) {
  std::vector<int> counts(p.size());
  SamplerScratch scratch;
  const SlotState state = slot_state(sampling, static_cast<int>(p.size()));
  for (int i = 0; i < n_draws; ++i) ++counts[sample_row({}, logits, state, i, scratch).token];
  double chi_square = 0, pooled_expected = 0, pooled_count = 0;
  int n_bins = 0;
  const auto add_bin = [&](double expected, double count) {
    chi_square += (count - expected) * (count - expected) / expected;
    ++n_bins;
  };
  for (size_t token = 0; token < p.size(); ++token) {
    if (p[token] == 0) {
      EXPECT_EQ(counts[token], 0) << "token " << token << " was filtered out";
    } else if (p[token] * n_draws >= 5) {
      add_bin(p[token] * n_draws, counts[token]);
    } else {
      pooled_expected += p[token] * n_draws;
      pooled_count += counts[token];
    }
  }
  if (pooled_expected >= 5) add_bin(pooled_expected, pooled_count);
  // The statistic has mean n_bins - 1 and variance twice that; the seed is fixed, so this never flickers.
  const double degrees = n_bins - 1;
  EXPECT_LE(chi_square, degrees + 4 * std::sqrt(2 * degrees) + 1e-9) << n_bins << " bins";
}

TEST(Philox, KnownAnswers_AreThoseOfRandom123) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformDraw, SeedAndPosition_UseAll64Bits) {
  EXPECT_EQ(uniform_draw(0, 0), static_cast<float>(0x6627e8d5 >> 8) / 16777216.0f);
  std::set<float> draws;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32, 1ull << 63})
    for (const uint64_t position : {0ull, 1ull, 1ull << 32, 1ull << 63}) draws.insert(uniform_draw(seed, position));
  EXPECT_EQ(draws.size(), 16u);
}

TEST(UniformDraw, ManyDraws_AreUniform) {
  constexpr int kBins = 64, kDraws = 64 * 1000;
  std::vector<int> counts(kBins);
  for (int i = 0; i < kDraws; ++i) {
    const float u = uniform_draw(7, i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++counts[static_cast<int>(u * kBins)];
  }
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 63 + 4 * std::sqrt(126.0));
}

TEST(Greedy, TheGreatestLogit_Wins) {
  for (const int n : {1, 2, 15, 16, 17, 1023, 1024, 1025, 5000}) {
    const std::vector<float> logits = random_logits(n, n);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(sample(logits, {}).token, best) << n << " logits";
  }
}

TEST(Greedy, EqualLogits_TheLowestIdWins) {
  std::vector<float> logits(4000, -1.0f);
  logits[3999] = logits[2048] = logits[1500] = logits[1499] = 2;
  EXPECT_EQ(sample(logits, {}).token, 1499);
  EXPECT_EQ(sample(std::vector<float>(77, 0.5f), {}).token, 0);
}

TEST(Greedy, NanCountsAsMinusInfinity) {
  std::vector<float> logits = random_logits(100, 1);
  logits[3] = kNan;
  logits[0] = kNan;
  logits[60] = 40;
  const RowOutput out = sample(logits, {});
  EXPECT_EQ(out.token, 60);
  EXPECT_NEAR(out.logprob, 0, 1e-6);
  EXPECT_EQ(sample(std::vector<float>(5, kNan), {}).token, 0);
}

TEST(Sampling, NothingAllowed_GivesTheFirstToken) {
  const std::vector<float> logits(50, -kInfinity);
  for (const float temperature : {0.0f, 1.0f}) {
    const RowOutput out = sample(logits, {.temperature = temperature, .typical_p = 0.5f, .top_p = 0.5f}, 0, 3);
    EXPECT_EQ(out.token, 0);
    EXPECT_EQ(out.logprob, -kInfinity);
    ASSERT_EQ(out.top.size(), 3u);
    EXPECT_EQ(out.top[2].token, 2);
  }
}

TEST(Sampling, InfiniteLogits_ShareAllTheProbability) {
  std::vector<float> logits = random_logits(300, 2);
  logits[17] = logits[203] = kInfinity;
  std::map<int32_t, int> counts;
  for (int position = 0; position < 200; ++position) {
    const RowOutput out = sample(logits, {.temperature = 0.7f, .typical_p = 0.95f, .top_p = 0.99f}, position);
    EXPECT_NEAR(out.logprob, std::log(0.5), 1e-6);
    ++counts[out.token];
  }
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[17], 100, 30);
  EXPECT_EQ(sample(logits, {}).token, 17);
}

TEST(Sampling, MinusInfinity_IsNeverDrawn) {
  std::vector<float> logits = random_logits(40, 3);
  for (int i = 0; i < 40; i += 2) logits[i] = -kInfinity;
  for (int position = 0; position < 500; ++position)
    EXPECT_EQ(sample(logits, {.temperature = 1e30f}, position).token % 2, 1);
}

TEST(Temperature, Tiny_IsGreedyAndHugeIsUniform) {
  const std::vector<float> logits = random_logits(32, 4);
  const int32_t best = sample(logits, {}).token;
  for (const float temperature : {1e-40f, 1e-30f, 1e-6f})
    for (int position = 0; position < 20; ++position)
      EXPECT_EQ(sample(logits, {.temperature = temperature}, position).token, best);
  const std::vector<double> uniform(32, 1.0 / 32);
  expect_draws_follow(uniform, logits, {.temperature = 3e38f, .seed = 5}, 20000);
}

TEST(Sampling, Draws_FollowTheSoftmax) {
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    const std::vector<float> logits = random_logits(200, 6, 1.5f);
    expect_draws_follow(softmax(logits, temperature), logits, {.temperature = temperature, .seed = 11}, 40000);
  }
}

struct FilterCase {
  const char* name;
  SamplingParams sampling;
};

void PrintTo(const FilterCase& filter, std::ostream* out) {
  *out << filter.name;
}

class Filters : public ::testing::TestWithParam<FilterCase> {};

TEST_P(Filters, Draws_FollowTheBruteForceDistribution) {
  for (const int n : {2, 37, 600}) {
    const std::vector<float> logits = random_logits(n, 100 + n, 2);
    SamplingParams sampling = GetParam().sampling;
    sampling.seed = n;
    expect_draws_follow(filtered_distribution(logits, sampling), logits, sampling, 20000);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sampler, Filters,
    ::testing::Values(
        FilterCase{"TopK1", {.temperature = 1, .top_k = 1}}, FilterCase{"TopK5", {.temperature = 1, .top_k = 5}},
        FilterCase{"TopK400", {.temperature = 2, .top_k = 400}},
        FilterCase{"TopKAboveVocabulary", {.temperature = 1, .top_k = 1 << 30}},
        FilterCase{"TypicalHalf", {.temperature = 1, .typical_p = 0.5f}},
        FilterCase{"TypicalMost", {.temperature = 1.5f, .typical_p = 0.95f}},
        FilterCase{"TypicalZero", {.temperature = 1, .typical_p = 0}},
        FilterCase{"TopPHalf", {.temperature = 1, .top_p = 0.5f}},
        FilterCase{"TopPMost", {.temperature = 1.3f, .top_p = 0.97f}},
        FilterCase{"TopPZero", {.temperature = 1, .top_p = 0}},
        FilterCase{"MinPTenth", {.temperature = 1, .min_p = 0.1f}},
        FilterCase{"MinPOne", {.temperature = 1, .min_p = 1}},
        FilterCase{"TopKThenTopP", {.temperature = 1, .top_k = 20, .top_p = 0.8f}},
        FilterCase{"TopKThenTypical", {.temperature = 1, .top_k = 30, .typical_p = 0.7f}},
        FilterCase{"All", {.temperature = 1.2f, .top_k = 100, .typical_p = 0.95f, .top_p = 0.9f, .min_p = 0.02f}}),
    [](const auto& filter) { return std::string(filter.param.name); });

TEST(TopP, Zero_KeepsTheMostLikely) {
  for (int seed = 0; seed < 20; ++seed) {
    const std::vector<float> logits = random_logits(3000, seed);
    EXPECT_EQ(sample(logits, {.temperature = 1, .top_p = 0}, seed).token, sample(logits, {}).token);
  }
}

TEST(MinP, One_KeepsTiesOfTheMostLikely) {
  std::vector<float> logits = random_logits(100, 8, 1);
  logits[20] = logits[70] = 9;
  std::set<int32_t> drawn;
  for (int position = 0; position < 100; ++position)
    drawn.insert(sample(logits, {.temperature = 1, .min_p = 1}, position).token);
  EXPECT_EQ(drawn, (std::set<int32_t>{20, 70}));
}

TEST(Sampling, FiltersThatKeepAll_ChangeNoDraw) {
  const std::vector<float> logits = random_logits(500, 9, 2);
  for (int position = 0; position < 200; ++position) {
    const int32_t plain = sample(logits, {.temperature = 1, .seed = 3}, position).token;
    EXPECT_EQ(sample(logits, {.temperature = 1, .top_k = 500, .seed = 3}, position).token, plain);
    EXPECT_EQ(sample(logits, {.temperature = 1, .min_p = 1e-30f, .seed = 3}, position).token, plain);
  }
}

TEST(Sampling, SeedAndPosition_DecideTheDrawWhateverRanBefore) {
  const std::vector<float> logits = random_logits(800, 10, 2);
  const SamplingParams sampling{.temperature = 1, .top_k = 300, .typical_p = 0.98f, .top_p = 0.95f, .seed = 42};
  std::vector<int32_t> alone;
  for (int position = 0; position < 100; ++position) alone.push_back(sample(logits, sampling, position).token);
  SamplerScratch scratch;
  const SlotState state = slot_state(sampling, 800);
  const SlotState other = slot_state({.temperature = 3, .top_p = 0.9f}, 3000, {{5, 2.0f}});
  for (int position = 99; position >= 0; --position) {  // the other way round, among strangers' rows
    sample_row({.n_logprobs = 7}, random_logits(3000, position), other, position, scratch);
    EXPECT_EQ(sample_row({}, logits, state, position, scratch).token, alone[position]) << position;
  }
  SamplingParams reseeded = sampling;
  reseeded.seed = 43;
  int n_equal = 0;
  for (int position = 0; position < 100; ++position)
    n_equal += sample(logits, reseeded, position).token == alone[position];
  EXPECT_LT(n_equal, 50);
}

TEST(Logprobs, AreTheModelsOwnDistribution) {
  std::vector<float> logits = random_logits(2000, 12, 4);
  logits[7] = kNan;
  std::vector<float> clean = logits;
  clean[7] = -kInfinity;
  const std::vector<double> p = softmax(clean);
  SamplerScratch scratch;
  const SamplingParams sampling{.repetition_penalty = 1.5f, .temperature = 0.3f, .top_k = 3, .seed = 1};
  const SlotState state = slot_state(sampling, 2000, {{100, 50.0f}}, 1, {4, 5, 6});
  const RowOutput out = sample_row({.n_logprobs = 10}, logits, state, 3, scratch);
  EXPECT_EQ(out.token, 100);  // the bias decides the draw, but not what is reported
  EXPECT_NEAR(out.logprob, std::log(p[100]), 2e-6 * std::abs(std::log(p[100])) + 1e-6);
  std::vector<int> order(2000);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
  ASSERT_EQ(out.top.size(), 10u);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(out.top[i].token, order[i]);
    EXPECT_NEAR(out.top[i].logprob, std::log(p[order[i]]), 1e-5);
  }
}

TEST(Logprobs, MoreThanTheVocabulary_GivesTheVocabulary) {
  const std::vector<float> logits = {1, kNan, 3, -kInfinity, 3};
  const RowOutput out = sample(logits, {}, 0, 32);
  std::vector<int32_t> tokens;
  for (const TokenLogprob& t : out.top) tokens.push_back(t.token);
  EXPECT_EQ(tokens, (std::vector<int32_t>{2, 4, 0, 1, 3}));
  EXPECT_EQ(out.top[3].logprob, -kInfinity);
}

TEST(Score, GivesTheTargetsLogProbabilityAndTheArgMax) {
  const std::vector<float> logits = random_logits(152000, 13, 2.5f);
  const std::vector<double> p = softmax(logits);
  SamplerScratch scratch;
  const SlotState state = slot_state({.temperature = 1, .top_k = 1}, 152000, {{9, 100.0f}});
  const int32_t best = sample(logits, {}).token;
  for (const int32_t target : {0, 9, 151999, best}) {
    const RowOutput out = sample_row({.kind = RowKind::kScore, .target = target}, logits, state, 0, scratch);
    EXPECT_EQ(out.token, best);
    EXPECT_NEAR(out.logprob, std::log(p[target]), 1e-5);
  }
}

TEST(Penalties, RepetitionCountsPromptAndGenerated) {
  const std::vector<float> logits = {4, -4, 2, -2, 1};
  const SlotState state = slot_state({.repetition_penalty = 2}, 5, {}, 2, {0, 1, 2});
  std::vector<float> changed = logits;
  state.apply(changed);
  EXPECT_EQ(changed, (std::vector<float>{2, -8, 1, -2, 1}));
}

TEST(Penalties, PresenceAndFrequencyCountGeneratedOnly) {
  SlotState state = slot_state({.presence_penalty = 0.5f, .frequency_penalty = 0.25f}, 5, {}, 2);
  int32_t position = 0;
  for (const int32_t token : {0, 1, 1, 2, 2, 2}) state.count(token, position++);
  std::vector<float> logits(5, 10.0f);
  state.apply(logits);
  // Token 0 is prompt only; 1 once prompt, once generated; 2 generated three times.
  EXPECT_EQ(logits, (std::vector<float>{10, 9.25f, 8.75f, 10, 10}));
}

TEST(Penalties, BiasComesFirst) {
  const SlotState state =
      slot_state({.repetition_penalty = 2, .frequency_penalty = 1}, 3, {{0, 4.0f}, {2, -kInfinity}}, 0, {0, 2});
  std::vector<float> logits = {-2, 1, 8};
  state.apply(logits);
  EXPECT_EQ(logits, (std::vector<float>{0, 1, -kInfinity}));  // (-2 + 4) / 2 - 1
}

TEST(Penalties, Reset_ForgetsTheSequenceBefore) {
  SlotState state = slot_state({.repetition_penalty = 2, .presence_penalty = 1}, 4, {{1, 1.0f}}, 0, {0, 0, 3});
  EXPECT_TRUE(state.changes_logits());
  SlotOp penalised;
  penalised.sampling.repetition_penalty = 2;
  state.reset(penalised, 4);
  EXPECT_FALSE(state.changes_logits());
  state.count(2, 0);
  std::vector<float> logits(4, 4.0f);
  state.apply(logits);
  EXPECT_EQ(logits, (std::vector<float>{4, 4, 2, 4}));
  state.reset(SlotOp(), 4);
  state.count(2, 0);  // no penalties: nothing to keep
  EXPECT_FALSE(state.changes_logits());
}

TEST(Penalties, ModelLogitsStayUnchanged) {
  const std::vector<float> logits = random_logits(64, 14);
  std::vector<float> copy = logits;
  SamplerScratch scratch;
  const SlotState state = slot_state({.repetition_penalty = 1.3f, .temperature = 1}, 64, {{3, -5.0f}}, 0, {1, 2, 3});
  sample_row({}, copy, state, 9, scratch);
  EXPECT_EQ(copy, logits);
}

TEST(Penalties, ForbiddenToken_IsNeverDrawn) {
  std::vector<float> logits = {5, 4, 3};
  SamplerScratch scratch;
  const SlotState greedy = slot_state({}, 3, {{0, -kInfinity}});
  EXPECT_EQ(sample_row({}, logits, greedy, 0, scratch).token, 1);
  logits[0] = kInfinity;  // the bias wins even then
  EXPECT_EQ(sample_row({}, logits, greedy, 0, scratch).token, 1);
}

TEST(Sampling, SteadyState_AllocatesNothing) {
  constexpr int kVocab = 20000;
  std::vector<SlotState> states;
  for (const SamplingParams& sampling :
       {SamplingParams{}, SamplingParams{.temperature = 1, .top_k = 50},
        SamplingParams{.temperature = 1, .typical_p = 0.9f, .top_p = 0.9f, .min_p = 0.1f},
        SamplingParams{.repetition_penalty = 1.1f, .frequency_penalty = 1, .temperature = 1}})
    states.push_back(slot_state(sampling, kVocab, {{1, 2.0f}}));
  std::vector<std::vector<float>> logits;
  for (int i = 0; i < 4; ++i) logits.push_back(random_logits(kVocab, i));
  SamplerScratch scratch;
  const auto run = [&](int32_t first_position) {
    for (int32_t i = 0; i < 100; ++i)
      for (SlotState& state : states)
        state.count(sample_row({}, logits[i % 4], state, first_position + i, scratch).token, first_position + i);
  };
  run(0);
  const int64_t before = n_allocations;
  run(100);
  EXPECT_EQ(n_allocations - before, 0);
}

}  // namespace
}  // namespace spate
