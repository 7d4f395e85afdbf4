// The CPU executor against the float32 reference on models of every architecture and type, and a sequence alone against
// the same one in whatever company.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>
#include <set>

#include "backend/cpu/cpu_executor.h"
#include "backend/isas_here.h"
#include "backend/reference/reference_executor.h"
#include "backend/step_progress.h"

#include "support/executor_driver.h"
#include "support/random_model.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

constexpr ExecutorLimits kLimits{.max_seqs = 6, .max_step_tokens = 96, .n_pages = 64};

std::shared_ptr<const Model> write_and_open(const GgufWriter& writer, const std::string& path) {
  const Result<void> written = writer.write(path);
  EXPECT_TRUE(written.ok()) << written.error().message;
  Result<std::shared_ptr<const Model>> model = Model::open(path);
  EXPECT_TRUE(model.ok()) << model.error().message;
  return model.ok() ? *model : nullptr;
}

std::unique_ptr<Executor> cpu_executor(std::shared_ptr<const Model> model, Isa isa, int n_threads = 2,
                                       bool repack = true, bool tiles = true) {
  auto executor = make_cpu_executor(
      model, {.limits = kLimits, .n_threads = n_threads, .isa = isa, .repack = repack, .tiles = tiles});
  EXPECT_TRUE(executor.ok()) << executor.error().message;
  return executor.ok() ? std::move(*executor) : nullptr;
}

std::vector<int32_t> random_tokens(int n, int vocab_size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab_size);
  return tokens;
}

std::vector<QuantType> every_type() {
  return {all_quant_types().begin(), all_quant_types().end()};
}

struct NamedModel {
  const char* name;
  RandomModel model;
};

const NamedModel kModels[] = {
    {"llama_f32", {}},
    {"llama_gqa8_divisors_partial_rope",
     {.n_heads = 8, .n_kv_heads = 1, .head_dim = 32, .rotary_dim = 16, .rope_divisors = true}},
    {"llama_odd_sizes_f16",
     {.d_model = 72,
      .d_ff = 100,
      .n_heads = 3,
      .n_kv_heads = 3,
      .head_dim = 24,
      .vocab_size = 77,
      .types = {QuantType::kF16, QuantType::kBF16}}},
    {"llama_every_type", {.n_layers = 3, .types = every_type()}},
    {"llama_small_blocks",
     {.d_model = 96,
      .d_ff = 160,
      .n_heads = 6,
      .n_kv_heads = 2,
      .head_dim = 16,
      .vocab_size = 99,
      .tied = true,
      .types = {QuantType::kQ4_0, QuantType::kQ4_1, QuantType::kQ5_0, QuantType::kQ5_1, QuantType::kQ8_0,
                QuantType::kIQ4_NL}}},
    {"qwen2_bias_tied_k_quants",
     {.architecture = "qwen2",
      .n_heads = 6,
      .n_kv_heads = 2,
      .tied = true,
      .types = {QuantType::kQ4_K, QuantType::kQ6_K, QuantType::kQ5_K, QuantType::kQ2_K, QuantType::kQ3_K,
                QuantType::kIQ4_XS}}},
    {"qwen3_norms_wide_heads",
     {.architecture = "qwen3", .n_heads = 4, .n_kv_heads = 4, .head_dim = 128, .types = {QuantType::kQ8_0}}},
};

class ExecutorModels : public ::testing::TestWithParam<NamedModel> {
 protected:
  void SetUp() override { model_ = write_and_open(random_model(GetParam().model), folder_.path("model.gguf")); }
  TemporaryFolder folder_;
  std::shared_ptr<const Model> model_;
};

// The largest, and the root mean square.
std::pair<double, double> differences(const std::vector<float>& actual, const std::vector<float>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double worst = 0, squares = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = actual[i] - expected[i];
    worst = std::max(worst, std::abs(difference));
    squares += difference * difference;
  }
  return {worst, std::sqrt(squares / static_cast<double>(expected.size()))};
}

// Logits of these models have a deviation of about 1, so a dropped bias, a wrong rotation or another row's activations
// show as differences of that size; int8 activations leave some hundredths.
TEST_P(ExecutorModels, EveryIsaAndStepSize_CloseToReference) {
  auto reference = make_reference_executor(model_, kLimits, 1);
  ASSERT_TRUE(reference.ok());
  const std::vector<int32_t> tokens = random_tokens(150, model_->spec().vocab_size, 3);
  const Scored expected = score_tokens(**reference, tokens);
  for (Isa isa : isas_here())
    for (const bool tiles : {false, true}) {
      if (tiles && isa != Isa::kAmx) continue;
      const auto executor = cpu_executor(model_, isa, 2, true, tiles);
      const Scored actual = score_tokens(*executor, tokens);
      for (int step_tokens : {1, 5, 17}) {
        if (tiles) break;  // these differ from steps of 150 tokens
        const Scored chunked = score_tokens(*executor, tokens, {.step_tokens = step_tokens});
        EXPECT_EQ(chunked.next_logprob, actual.next_logprob) << step_tokens << " tokens a step, " << isa_name(isa);
      }
      const auto [worst, deviation] = differences(actual.next_logprob, expected.next_logprob);
      std::printf("%s, %s%s: log-probabilities off by %.5f at worst, %.5f root mean square\n", GetParam().name,
                  std::string(isa_name(isa)).c_str(), tiles ? " with tiles" : "", worst, deviation);
      EXPECT_LT(worst, 0.3);
      EXPECT_LT(deviation, 0.05);
    }
}

// One sequence of the batch test: how far it has come.
struct Progress {
  std::vector<int32_t> tokens;
  std::vector<int32_t> pages;
  std::vector<float> logprobs;
  int n_done = 0;
};

// Runs all sequences together: each step brings a random number of tokens of a random subset, from pages in random
// order.
std::vector<Progress> run_in_company(Executor& executor, std::vector<Progress> sequences, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<std::pair<size_t, int>>> rows_in_flight;
  std::vector<StepId> steps;
  const auto collect = [&] {
    const Result<StepOutput> output = executor.wait(steps.front());
    ASSERT_TRUE(output.ok()) << output.error().message;
    for (size_t r = 0; r < output->rows.size(); ++r) {
      const auto [sequence, position] = rows_in_flight.front()[r];
      sequences[sequence].logprobs[position] = output->rows[r].logprob;
    }
    steps.erase(steps.begin());
    rows_in_flight.erase(rows_in_flight.begin());
  };
  for (;;) {
    StepBatch batch;
    batch.q_start = {0};
    batch.groups.emplace_back().start = {0};
    std::vector<std::pair<size_t, int>> rows;
    bool left = false;
    for (size_t s = 0; s < sequences.size(); ++s) {
      Progress& sequence = sequences[s];
      const int rest = static_cast<int>(sequence.tokens.size()) - sequence.n_done;
      left = left || rest > 0;
      const int room = kLimits.max_step_tokens - batch.n_tokens();
      if (rest == 0 || room == 0 || random() % 3 == 0) continue;
      const int n = std::min({rest, room, random() % 2 == 0 ? 1 : 1 + static_cast<int>(random() % 40)});
      const auto slot = static_cast<int32_t>(s);
      if (sequence.n_done == 0) batch.slot_ops.push_back({.slot = slot});
      for (int i = sequence.n_done; i < sequence.n_done + n; ++i) {
        const int32_t target = i + 1 < static_cast<int>(sequence.tokens.size()) ? sequence.tokens[i + 1] : 0;
        batch.rows.push_back(
            {.token_index = batch.n_tokens(), .slot = slot, .kind = RowKind::kScore, .target = target});
        rows.emplace_back(s, i);
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
    if (!left) break;
    if (batch.n_tokens() == 0) continue;
    steps.push_back(executor.enqueue(batch));
    rows_in_flight.push_back(std::move(rows));
    if (steps.size() == kMaxStepsInFlight) collect();
  }
  while (!steps.empty()) collect();
  return sequences;
}

TEST_P(ExecutorModels, SequenceInAnyCompany_SameBitsAsAlone) {
  std::mt19937 random(5);
  std::vector<int32_t> pages(kLimits.n_pages);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  std::shuffle(pages.begin(), pages.end(), random);
  std::vector<Progress> sequences;
  for (int n_tokens : {1, 31, 32, 33, 100, 150}) {
    Progress& sequence = sequences.emplace_back();
    sequence.tokens = random_tokens(n_tokens, model_->spec().vocab_size, static_cast<uint32_t>(n_tokens));
    sequence.logprobs.assign(n_tokens, NAN);
    for (int i = 0; i < pages_of(n_tokens); ++i) {
      sequence.pages.push_back(pages.back());
      pages.pop_back();
    }
  }
  for (Isa isa : isas_here()) {
    const auto alone = cpu_executor(model_, isa, 1, true, false);
    const auto together = cpu_executor(model_, isa, 3, true, false);
    for (uint32_t seed : {1u, 2u}) {
      const std::vector<Progress> results = run_in_company(*together, sequences, seed);
      for (const Progress& result : results)
        EXPECT_EQ(result.logprobs, score_tokens(*alone, result.tokens).next_logprob)
            << result.tokens.size() << " tokens, " << isa_name(isa);
    }
  }
}

TEST_P(ExecutorModels, HiddenRows_CloseToReference) {
  auto reference = make_reference_executor(model_, kLimits, 1);
  ASSERT_TRUE(reference.ok());
  const auto executor = cpu_executor(model_, best_isa());
  StepBatch batch;
  batch.tokens = random_tokens(40, model_->spec().vocab_size, 9);
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
  for (size_t r : {size_t{0}, size_t{2}}) {
    const std::vector<float>&a = actual->rows[r].hidden, &e = expected->rows[r].hidden;
    ASSERT_EQ(a.size(), static_cast<size_t>(model_->spec().d_model));
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(a[i] - e[i], 2);
      norm += std::pow(e[i], 2);
    }
    EXPECT_LT(std::sqrt(difference / norm), 0.08) << "row " << r;
  }
}

std::string model_name(const ::testing::TestParamInfo<NamedModel>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Models, ExecutorModels, ::testing::ValuesIn(kModels), model_name);

// The tokens that step N draws feed step N + 1 before the host has seen them.
TEST(CpuExecutor, TokensFromThePreviousStep_SameAsTokensThroughTheHost) {
  TemporaryFolder folder;
  const auto model = write_and_open(random_model({.types = {QuantType::kQ8_0}}), folder.path("model.gguf"));
  const auto run = [&](bool through_host) {
    const auto executor = cpu_executor(model, best_isa());
    const SamplingParams sampling{
        .repetition_penalty = 1.2f, .frequency_penalty = 0.1f, .temperature = 1.5f, .top_k = 50, .seed = 11};
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
    StepId step = executor->enqueue(batch);
    for (int i = 0; i < 40; ++i) {
      if (through_host) {
        const Result<StepOutput> output = executor->wait(step);
        EXPECT_TRUE(output.ok());
        drawn.push_back(output->rows[0].token);
      }
      const StepId previous = step;
      batch.slot_ops.clear();
      batch.tokens = {through_host ? drawn.back() : 0};
      batch.from_row = {through_host ? -1 : 0};
      batch.q_start = {0, 1};
      ++batch.kv_len[0];
      batch.rows[0].token_index = 0;
      step = executor->enqueue(batch);
      if (through_host) continue;
      const Result<StepOutput> output = executor->wait(previous);
      EXPECT_TRUE(output.ok());
      drawn.push_back(output->rows[0].token);
    }
    return drawn;
  };
  const std::vector<int32_t> expected = run(true);
  EXPECT_EQ(run(false), expected);
  EXPECT_GT(std::set<int32_t>(expected.begin(), expected.end()).size(), 10u) << "the draws should differ";
}

// Else a watchdog would take a long one for one that hangs.
TEST(CpuExecutor, Step_ShowsAfterEachLayerThatItGetsOn) {
  TemporaryFolder folder;
  constexpr int kLayers = 3;
  const auto model = write_and_open(random_model({.n_layers = kLayers}), folder.path("model.gguf"));
  const auto executor = cpu_executor(model, best_isa());
  const auto* shown = dynamic_cast<const StepProgress*>(executor.get());
  ASSERT_NE(shown, nullptr);
  const uint64_t before = shown->progress();
  score_tokens(*executor, random_tokens(4, 320, 1));
  EXPECT_GE(shown->progress() - before, static_cast<uint64_t>(kLayers));
}

TEST(CpuExecutor, KvPoolLargerThanTheMachine_IsRefused) {
  TemporaryFolder folder;
  const auto model = write_and_open(random_model({.n_layers = 1}), folder.path("model.gguf"));
  const ExecutorLimits limits{.max_seqs = 1, .max_step_tokens = 1, .n_pages = 1 << 30};
  const auto executor = make_cpu_executor(model, {.limits = limits, .isa = best_isa()});
  ASSERT_FALSE(executor.ok());
  EXPECT_EQ(executor.error().code, ErrorCode::kOutOfResources);
  EXPECT_NE(executor.error().message.find("17592.2 GB of KV cache"), std::string::npos) << executor.error().message;
}

TEST(CpuExecutor, FileShrinksWhileBorrowed_StepFailsWithoutASignal) {
  TemporaryFolder folder;
  const std::string path = folder.path("model.gguf");
  const auto model = write_and_open(random_model({.types = {QuantType::kQ8_0}}), path);
  const auto executor = cpu_executor(model, best_isa(), 2, false);
  ASSERT_EQ(score_tokens(*executor, random_tokens(10, 320, 1)).best.size(), 10u);
  std::filesystem::resize_file(path, 4096);
  StepBatch batch;
  batch.tokens = {1};
  batch.from_row = {-1};
  batch.slot_ops = {{.slot = 0}};
  batch.slot = {0};
  batch.q_start = {0, 1};
  batch.kv_len = {1};
  batch.groups = {{.start = {0, 1}, .pages = {0}}};
  batch.rows = {{.token_index = 0, .slot = 0}};
  for (int i = 0; i < 2; ++i) {
    const Result<StepOutput> output = executor->wait(executor->enqueue(batch));
    ASSERT_FALSE(output.ok());
    EXPECT_EQ(output.error().code, ErrorCode::kIo);
    EXPECT_NE(output.error().message.find(path), std::string::npos) << output.error().message;
  }
}

}  // namespace
}  // namespace spate::testing
