// The CUDA executor against the float32 reference on models of every architecture, type and head size, and a sequence
// alone against the same one in whatever company.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <gtest/gtest.h>
#include <random>
#include <set>

#include "backend/reference/reference_executor.h"

#include "cuda_models.h"
#include "device_vector.h"
#include "support/executor_driver.h"
#include "support/golden.h"
#include "support/test_data.h"

namespace spate::cuda::testing {
namespace {

using spate::testing::pages_of;
using spate::testing::score_tokens;
using spate::testing::Scored;
using spate::testing::TemporaryFolder;

constexpr ExecutorLimits kLimits{.max_seqs = 64, .max_step_tokens = 512, .n_pages = 512};
// For tests that also run under compute-sanitizer: few graphs, and no step long enough for cuBLASLt.
constexpr ExecutorLimits kSmallLimits{.max_seqs = 4, .max_step_tokens = 64, .n_pages = 16};
// Of log-probabilities, where logits have a deviation of about 1: a dropped bias, a wrong rotation or another row's
// activations are off by that much, float16 activations by some thousandths, int8 ones by some hundredths. Passes that
// differ in rounding, as those of one token and of many do, may disagree about tokens that are as close as the margin
// (design.md).
struct Closeness {
  double error, deviation;
  float margin;
};
constexpr Closeness kFloat16{0.05, 0.01, 0.03f}, kInt8{0.3, 0.05, 0.15f};

// Of steps of so many tokens.
Closeness closeness(int step_tokens) {
  static const DeviceProfile profile = *probe_device(0);
  return step_tokens <= profile.stream_int8_tokens ? kInt8 : kFloat16;
}

class CudaExecutorModels : public ::testing::TestWithParam<NamedModel> {
 protected:
  void SetUp() override {
    SPATE_REQUIRE_GPU();
    model_ = make_model(GetParam().model, folder_.path("model.gguf"));
    ASSERT_NE(model_, nullptr);
  }
  std::vector<int32_t> tokens(int n, uint32_t seed) const { return random_tokens(n, model_->spec().vocab_size, seed); }

  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
};

void expect_close(const std::vector<float>& actual, const std::vector<float>& expected, const Closeness& close,
                  const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double worst = 0, squares = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
    squares += difference * difference;
  }
  const double deviation = std::sqrt(squares / static_cast<double>(actual.size()));
  std::printf("%s: log-probabilities off by %.5f at worst, %.5f root mean square\n", what.c_str(), worst, deviation);
  EXPECT_LT(worst, close.error) << what;
  EXPECT_LT(deviation, close.deviation) << what;
}

TEST_P(CudaExecutorModels, EveryStepSize_CloseToReference) {
  auto reference = make_reference_executor(model_, kLimits, 2);
  ASSERT_TRUE(reference.ok());
  const auto executor = make_executor(model_, kLimits);
  ASSERT_NE(executor, nullptr);
  const std::vector<int32_t> given = tokens(600, 3);
  const Scored expected = score_tokens(**reference, given);
  for (int step_tokens : {1, 2, 3, 7, 8, 17, 33, 64, 129, 512})
    expect_close(score_tokens(*executor, given, {.step_tokens = step_tokens}).next_logprob, expected.next_logprob,
                 closeness(step_tokens), fmt::format("{}, {} tokens a step", GetParam().name, step_tokens));
}

TEST_P(CudaExecutorModels, EveryKvType_CloseToReference) {
  auto reference = make_reference_executor(model_, kLimits, 2);
  ASSERT_TRUE(reference.ok());
  const std::vector<int32_t> given = tokens(200, 4);
  const Scored expected = score_tokens(**reference, given);
  for (const KvType type : {KvType::kQ8_0, KvType::kFp8}) {
    const auto executor = make_executor(model_, kLimits, [&](CudaExecutorOptions& options) { options.kv_type = type; });
    ASSERT_NE(executor, nullptr);
    for (int step_tokens : {1, 64}) {
      const Scored actual = score_tokens(*executor, given, {.step_tokens = step_tokens});
      ASSERT_EQ(actual.next_logprob.size(), given.size());
      double squares = 0;
      for (size_t i = 0; i < given.size(); ++i)
        squares += std::pow(actual.next_logprob[i] - expected.next_logprob[i], 2);
      const double deviation = std::sqrt(squares / static_cast<double>(given.size()));
      std::printf("%s, %s keys and values, %d tokens a step: %.5f root mean square\n", GetParam().name,
                  std::string(kv_type_name(type)).c_str(), step_tokens, deviation);
      EXPECT_LT(deviation, type == KvType::kQ8_0 ? 0.05 : 0.2);  // 0.026 and 0.12 were seen
    }
  }
}

// Decode attention by clusters of CTAs, in replayed graphs, differs in rounding alone.
TEST_P(CudaExecutorModels, AttentionClusters_CloseToNone) {
  const std::vector<int32_t> given = tokens(300, 8);
  const auto score = [&](bool clusters, int ctas, int step_tokens) {
    const auto executor = make_executor(model_, kLimits, [&](CudaExecutorOptions& options) {
      options.profile.has_clusters = clusters;
      options.profile.attention_cluster = ctas;
    });
    return executor == nullptr ? std::vector<float>()
                               : score_tokens(*executor, given, {.step_tokens = step_tokens}).next_logprob;
  };
  auto probed = probe_device(0);
  ASSERT_TRUE(probed.ok());
  if (!probed->has_clusters) GTEST_SKIP() << "no clusters";
  for (const int step_tokens : {1, 3})
    for (const int ctas : {0, 1, 8})
      expect_close(
          score(true, ctas, step_tokens), score(false, 0, step_tokens), closeness(step_tokens),
          fmt::format("{}, {} tokens a step, attention by clusters ({}) and not", GetParam().name, step_tokens, ctas));
}

// Norms folded into the products around them differ in rounding alone.
TEST_P(CudaExecutorModels, FoldedNorms_CloseToNormsApart) {
  const auto up_to = [&](int tokens) {
    return make_executor(model_, kLimits, [&](CudaExecutorOptions& options) {
      options.profile.fused_norm_tokens = options.profile.wide_norm_tokens = tokens;
    });
  };
  const auto apart = up_to(0), folded = up_to(255);
  ASSERT_TRUE(apart != nullptr && folded != nullptr);
  const std::vector<int32_t> given = tokens(300, 7);
  for (const int step_tokens : {1, 2, 7, 8, 9, 33, 64, 128, 255})
    expect_close(score_tokens(*folded, given, {.step_tokens = step_tokens}).next_logprob,
                 score_tokens(*apart, given, {.step_tokens = step_tokens}).next_logprob, closeness(step_tokens),
                 fmt::format("{}, {} tokens a step, norms folded and apart", GetParam().name, step_tokens));
}

// A sequence among others: how far it has come.
struct Progress {
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;
  Scored scored;
  int n_done = 0;
};

// Adds n tokens of a sequence to a step, every one of them scored.
void add_tokens(StepBatch& batch, Progress& sequence, int32_t slot, int n) {
  if (sequence.n_done == 0) batch.slot_ops.push_back({.slot = slot});
  for (int i = sequence.n_done; i < sequence.n_done + n; ++i) {
    const int32_t target = i + 1 < static_cast<int>(sequence.tokens.size()) ? sequence.tokens[i + 1] : 0;
    batch.rows.push_back(
        {.token_index = batch.n_tokens(), .slot = slot, .kind = RowKind::kScore, .target = target, .n_logprobs = 2});
    batch.tokens.push_back(sequence.tokens[i]);
    batch.from_row.push_back(-1);
  }
  sequence.n_done += n;
  batch.slot.push_back(slot);
  batch.q_start.push_back(batch.n_tokens());
  batch.kv_len.push_back(sequence.n_done);
  PageTable& table = batch.groups[0];
  table.pages.insert(table.pages.end(), sequence.pages.begin(), sequence.pages.begin() + pages_of(sequence.n_done));
  table.start.push_back(static_cast<int32_t>(table.pages.size()));
}

// Runs all sequences together, two steps in flight. Each joins when its predecessors have come some way, decodes a
// token a step, or now and then brings a chunk.
void run_in_company(Executor& executor, std::vector<Progress>& sequences, uint32_t seed) {
  std::mt19937 random(seed);
  std::deque<std::pair<StepId, std::vector<size_t>>> in_flight;  // and the sequence of each row
  const auto collect = [&] {
    const Result<StepOutput> output = executor.wait(in_flight.front().first);
    ASSERT_TRUE(output.ok()) << output.error().message;
    for (size_t r = 0; r < output->rows.size(); ++r) {
      Scored& scored = sequences[in_flight.front().second[r]].scored;
      scored.best.push_back(output->rows[r].token);
      scored.next_logprob.push_back(output->rows[r].logprob);
      scored.top.push_back(output->rows[r].top);
    }
    in_flight.pop_front();
  };
  for (int step = 0;; ++step) {
    StepBatch batch;
    batch.q_start = {0};
    batch.groups.emplace_back().start = {0};
    std::vector<size_t> rows;
    bool left = false;
    for (size_t s = 0; s < sequences.size(); ++s) {
      Progress& sequence = sequences[s];
      const int rest = static_cast<int>(sequence.tokens.size()) - sequence.n_done;
      const int room = kLimits.max_step_tokens - batch.n_tokens();
      left = left || rest > 0;
      if (rest == 0 || room == 0 || step < static_cast<int>(s)) continue;
      const int n = std::min({rest, room, random() % 16 == 0 ? 1 + static_cast<int>(random() % 90) : 1});
      add_tokens(batch, sequence, static_cast<int32_t>(s), n);
      rows.insert(rows.end(), n, s);
    }
    if (!left) break;
    if (batch.n_tokens() == 0) continue;
    in_flight.emplace_back(executor.enqueue(batch), std::move(rows));
    if (in_flight.size() == kMaxStepsInFlight) collect();
  }
  while (!in_flight.empty()) collect();
}

// Runs the sequences together and each of them alone, a token a step, and compares them row by row: log-probabilities,
// and the arg-max where it leads by more than `margin`.
void expect_same_alone(Executor& executor, const std::vector<std::vector<int32_t>>& texts, double margin,
                       const std::string& what) {
  std::mt19937 random(static_cast<uint32_t>(texts.size()));
  std::vector<int32_t> pages(kLimits.n_pages);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  std::shuffle(pages.begin(), pages.end(), random);
  std::vector<Progress> sequences(texts.size());
  for (size_t s = 0; s < texts.size(); ++s) {
    sequences[s].tokens = texts[s];
    const int n_pages = pages_of(static_cast<int>(texts[s].size()));
    sequences[s].pages.assign(pages.end() - n_pages, pages.end());
    pages.resize(pages.size() - n_pages);
  }
  run_in_company(executor, sequences, static_cast<uint32_t>(texts.size()));
  const Closeness close = closeness(1);
  int n_compared = 0, n_differ = 0;
  double worst = 0;
  for (const Progress& sequence : sequences) {
    const Scored alone = score_tokens(executor, sequence.tokens, {.step_tokens = 1, .n_logprobs = 2});
    ASSERT_EQ(alone.best.size(), sequence.scored.best.size());
    for (size_t i = 0; i < alone.best.size(); ++i) {
      const double difference = std::abs(static_cast<double>(alone.next_logprob[i]) - sequence.scored.next_logprob[i]);
      worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
      if (alone.top[i][0].logprob - alone.top[i][1].logprob <= margin) continue;
      ++n_compared;
      n_differ += alone.best[i] != sequence.scored.best[i];
    }
  }
  std::printf("%s, %zu sequences: %d of %d arg-max differ from alone, log-probabilities within %.5f\n", what.c_str(),
              texts.size(), n_differ, n_compared, worst);
  EXPECT_GT(n_compared, 0) << what;
  EXPECT_EQ(n_differ, 0) << what;
  EXPECT_LT(worst, close.error) << what;
}

TEST_P(CudaExecutorModels, SequenceInCompanyOf2To64_AgreesWithItselfAlone) {
  const auto executor = make_executor(model_, kLimits);
  ASSERT_NE(executor, nullptr);
  for (const int n_seqs : {2, 5, 16, 33, 64}) {
    std::mt19937 random(static_cast<uint32_t>(n_seqs));
    std::vector<std::vector<int32_t>> texts(n_seqs);
    for (std::vector<int32_t>& text : texts)
      text = tokens(1 + static_cast<int>(random() % 200), static_cast<uint32_t>(random()));
    // Random weights damp no rounding as trained ones do: what it may move a log-probability by is also the least lead
    // that means something.
    expect_same_alone(*executor, texts, std::max<double>(closeness(1).margin, closeness(1).error), GetParam().name);
  }
}

TEST(CudaExecutor, BundledModelInCompanyOf2To64_AgreesWithItselfAlone) {
  SPATE_REQUIRE_GPU();
  const auto executor = make_executor(open_model(spate::testing::bundled_model_path()), kLimits);
  ASSERT_NE(executor, nullptr);
  const auto golden = spate::testing::load_golden("golden-q4_k_m.json");
  for (const int n_seqs : {2, 5, 16, 33, 64}) {
    std::vector<std::vector<int32_t>> texts(n_seqs);
    for (int s = 0; s < n_seqs; ++s) {
      const auto& prompt = golden[s % golden.size()];
      texts[s] = prompt.ids;
      texts[s].insert(texts[s].end(), prompt.greedy_ids.begin(), prompt.greedy_ids.end());
    }
    expect_same_alone(*executor, texts, closeness(1).margin, "bundled model");
  }
}

TEST_P(CudaExecutorModels, HiddenRows_CloseToReference) {
  auto reference = make_reference_executor(model_, kLimits, 1);
  ASSERT_TRUE(reference.ok());
  const auto executor = make_executor(model_, kSmallLimits);
  ASSERT_NE(executor, nullptr);
  StepBatch batch;
  batch.tokens = tokens(40, 9);
  batch.from_row.assign(40, -1);
  batch.slot_ops = {{.slot = 2}};
  batch.slot = {2};
  batch.q_start = {0, 40};
  batch.kv_len = {40};
  batch.groups = {{.start = {0, 2}, .pages = {7, 3}}};
  batch.rows = {{.token_index = 3, .slot = 2, .kind = RowKind::kHidden},
                {.token_index = 20, .slot = 2, .kind = RowKind::kScore, .target = 1},
                {.token_index = 39, .slot = 2, .kind = RowKind::kHidden}};
  const Result<StepOutput> expected = (*reference)->wait((*reference)->enqueue(batch));
  const Result<StepOutput> actual = executor->wait(executor->enqueue(batch));
  ASSERT_TRUE(expected.ok() && actual.ok());
  EXPECT_NEAR(actual->rows[1].logprob, expected->rows[1].logprob, closeness(1).error);  // one row of the LM head
  for (size_t r : {size_t{0}, size_t{2}}) {
    const std::vector<float>&a = actual->rows[r].hidden, &e = expected->rows[r].hidden;
    ASSERT_EQ(a.size(), static_cast<size_t>(model_->spec().d_model));
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(a[i] - e[i], 2);
      norm += std::pow(e[i], 2);
    }
    EXPECT_LT(std::sqrt(difference / norm), 0.02) << "row " << r;
  }
}

std::string model_name(const ::testing::TestParamInfo<NamedModel>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, CudaExecutorModels, ::testing::ValuesIn(random_models()), model_name);

// The tokens that step N draws feed step N + 1 before the host has seen them.
TEST(CudaExecutor, TokensFromThePreviousStep_SameAsTokensThroughTheHost) {
  SPATE_REQUIRE_GPU();
  TemporaryFolder folder;
  const auto model = make_model({.types = {QuantType::kQ8_0}}, folder.path("model.gguf"));
  const auto executor = make_executor(model, kSmallLimits);
  ASSERT_NE(executor, nullptr);
  const auto run = [&](bool through_host, const SamplingParams& sampling) {
    StepBatch batch;
    batch.tokens = {5, 6, 7};
    batch.from_row = {-1, -1, -1};
    batch.slot_ops = {{.slot = 0, .sampling = sampling, .n_prompt_tokens = 3}};
    batch.slot = {0};
    batch.q_start = {0, 3};
    batch.kv_len = {3};
    batch.groups = {{.start = {0, 2}, .pages = {1, 2}}};
    batch.rows = {{.token_index = 2, .slot = 0}};
    std::vector<int32_t> drawn;
    const auto take = [&](StepId step) {
      const Result<StepOutput> output = executor->wait(step);
      EXPECT_TRUE(output.ok());
      drawn.push_back(output.ok() ? output->rows[0].token : 0);
    };
    StepId step = executor->enqueue(batch);
    for (int i = 0; i < 40; ++i) {
      if (through_host) take(step);
      const StepId previous = step;
      batch.slot_ops.clear();
      batch.tokens = {through_host ? drawn.back() : 0};
      batch.from_row = {through_host ? -1 : 0};
      batch.q_start = {0, 1};
      ++batch.kv_len[0];
      batch.rows[0].token_index = 0;
      step = executor->enqueue(batch);
      if (!through_host) take(previous);
    }
    take(step);
    return drawn;
  };
  for (const SamplingParams& sampling :
       {SamplingParams{},
        SamplingParams{
            .repetition_penalty = 1.2f, .frequency_penalty = 0.1f, .temperature = 1.5f, .top_k = 50, .seed = 11}}) {
    const std::vector<int32_t> expected = run(true, sampling);
    EXPECT_EQ(run(false, sampling), expected);
    if (sampling.temperature > 0) {
      EXPECT_GT(std::set<int32_t>(expected.begin(), expected.end()).size(), 10u) << "the draws should differ";
    }
  }
}

}  // namespace
}  // namespace spate::cuda::testing
