#include "backend/cuda/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

#include "sampling_harness.h"

namespace spate::cuda::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLogprobTolerance = 1e-4f;  // float32 sums of up to 152k terms in another order
constexpr double kNearBound = 1e-5;

class Sampling : public ::testing::Test {
 protected:
  void SetUp() override {
    auto probed = probe_device(0);
    if (!probed.ok()) GTEST_SKIP() << "no GPU: " << probed.error().message;
    profile_ = *probed;
  }
  std::unique_ptr<SamplingHarness> harness(SamplingHarness::Shape shape) const {
    return std::make_unique<SamplingHarness>(shape, profile_);
  }

  DeviceProfile profile_;
};

// Distributions as models leave them, and as they had better not.
std::vector<float> random_row(int n, std::mt19937& random) {
  constexpr float kScales[] = {0.01f, 1, 3, 8, 3, 3, 3, 3};
  const int kind = static_cast<int>(random() % 8);
  std::normal_distribution<float> normal(0, kScales[kind]);
  std::vector<float> row(n);
  for (float& x : row) x = normal(random);
  if (kind == 4)  // many ties
    for (float& x : row) x = std::round(x * 4) / 4;
  if (kind == 5)  // a few stand out
    for (int i = 0; i < 5; ++i) row[random() % n] += 12;
  if (kind == 6)  // much is forbidden
    for (float& x : row)
      if (random() % 8 != 0) x = -kInfinity;
  if (kind == 7) std::fill(row.begin(), row.end(), 0.5f);
  return row;
}

std::vector<float> random_rows(int n_rows, int vocab_size, std::mt19937& random) {
  std::vector<float> rows;
  rows.reserve(static_cast<size_t>(n_rows) * vocab_size);
  for (int i = 0; i < n_rows; ++i) {
    const std::vector<float> row = random_row(vocab_size, random);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

template <typename T, size_t n>
T pick(const T (&values)[n], std::mt19937& random) {
  return values[random() % n];
}

SamplingParams random_params(int vocab_size, std::mt19937& random) {
  constexpr float kTemperatures[] = {0, 0.01f, 0.3f, 0.7f, 1, 1, 1.5f, 5, 100};
  const int top_ks[] = {0, 0, 1, 2, 40, 100, 1000, 1025, 5000, vocab_size - 1, vocab_size, vocab_size + 7};
  constexpr float kTypical[] = {1, 1, 1, 0.95f, 0.5f, 0.1f, 0};
  constexpr float kTopP[] = {1, 1, 0.95f, 0.5f, 0.1f, 0.999f, 0};
  constexpr float kMinP[] = {0, 0, 0.05f, 0.5f, 1e-6f, 1};
  return {.temperature = pick(kTemperatures, random),
          .top_k = pick(top_ks, random),
          .typical_p = pick(kTypical, random),
          .top_p = pick(kTopP, random),
          .min_p = pick(kMinP, random),
          .seed = random() | static_cast<uint64_t>(random()) << 32};
}

void add_random_penalties(SlotOp& op, int vocab_size, std::mt19937& random) {
  if (random() % 2 == 0) {
    op.sampling.repetition_penalty = pick({1.0f, 1.1f, 1.7f, 0.8f}, random);
    op.sampling.presence_penalty = pick({0.0f, 0.6f, -0.5f}, random);
    op.sampling.frequency_penalty = pick({0.0f, 0.3f, 2.0f}, random);
  }
  const int n_bias = random() % 3 == 0 ? static_cast<int>(1 + random() % 300) : 0;
  std::normal_distribution<float> normal(0, 4);
  for (int i = 0; i < n_bias; ++i)
    op.logit_bias.push_back(
        {static_cast<int32_t>(random() % vocab_size), random() % 9 == 0 ? -kInfinity : normal(random)});
  op.n_prompt_tokens = static_cast<int32_t>(random() % 40);
  for (int i = static_cast<int>(random() % 100); i > 0; --i)
    op.history.push_back(static_cast<int32_t>(random() % vocab_size));
}

void reset_slots(StepBatch& batch, int vocab_size, bool penalties, std::mt19937& random) {
  for (const int32_t slot : batch.slot) {
    SlotOp op{.slot = slot, .sampling = random_params(vocab_size, random)};
    if (penalties) add_random_penalties(op, vocab_size, random);
    batch.slot_ops.push_back(std::move(op));
  }
}

// Counts rows, and those whose token is not the host's.
struct Agreement {
  int n_rows = 0, n_different = 0;

  void print(int vocab_size) const {
    std::printf("vocabulary of %d: %d of %d rows drew another token than the host\n", vocab_size, n_different, n_rows);
  }
};

// A different token is only accepted of a draw that came within kNearBound of falling out otherwise.
void expect_agreement(const std::vector<RowOutput>& device, const std::vector<RowOutput>& host, const StepBatch& batch,
                      const SamplingHarness& harness, Agreement& agreement) {
  ASSERT_EQ(device.size(), host.size());
  for (size_t r = 0; r < device.size(); ++r) {
    const Row& row = batch.rows[r];
    if (row.kind == RowKind::kHidden) continue;
    ++agreement.n_rows;
    const SamplingParams& sampling = harness.host_slot(row.slot).sampling();
    if (device[r].token != host[r].token) {
      ++agreement.n_different;
      const int seq = static_cast<int>(std::find(batch.slot.begin(), batch.slot.end(), row.slot) - batch.slot.begin());
      const int64_t position = batch.kv_len[seq] - batch.q_start[seq + 1] + row.token_index + 1;
      ASSERT_EQ(row.kind, RowKind::kSample) << "row " << r << ": " << device[r].token << ", not " << host[r].token;
      ASSERT_GT(sampling.temperature, 0) << "row " << r << ": " << device[r].token << ", not " << host[r].token;
      EXPECT_LT(nearest_bound(harness.adjusted(static_cast<int>(r)), sampling, position), kNearBound)
          << "row " << r << ": " << device[r].token << ", not " << host[r].token << "; temperature "
          << sampling.temperature << ", top-k " << sampling.top_k << ", typical " << sampling.typical_p << ", top-p "
          << sampling.top_p << ", min-p " << sampling.min_p;
    } else if (std::isfinite(host[r].logprob)) {
      EXPECT_NEAR(device[r].logprob, host[r].logprob, kLogprobTolerance) << "row " << r;
    } else {
      EXPECT_EQ(device[r].logprob, host[r].logprob) << "row " << r;
    }
  }
}

void expect_same_top(const std::vector<TokenLogprob>& device, const std::vector<TokenLogprob>& host, size_t r) {
  ASSERT_EQ(device.size(), host.size()) << "row " << r;
  for (size_t i = 0; i < host.size(); ++i) {
    EXPECT_EQ(device[i].token, host[i].token) << "row " << r << ", place " << i;
    if (std::isfinite(host[i].logprob)) {
      EXPECT_NEAR(device[i].logprob, host[i].logprob, kLogprobTolerance) << "row " << r << ", place " << i;
    } else {
      EXPECT_EQ(device[i].logprob, host[i].logprob) << "row " << r << ", place " << i;
    }
  }
}

void expect_same_bits(const RowOutput& a, const RowOutput& b, const std::string& what) {
  EXPECT_EQ(a.token, b.token) << what;
  EXPECT_EQ(std::bit_cast<uint32_t>(a.logprob), std::bit_cast<uint32_t>(b.logprob)) << what;
}

TEST_F(Sampling, EveryCombinationOfFilters_DrawsTheHostsToken) {
  constexpr int kVocab = 1000;
  const auto h = harness({.vocab_size = kVocab});
  std::mt19937 random(1);
  Agreement agreement;
  StepBatch batch = decode_batch(64, kVocab, random);
  const auto run = [&] {
    const std::vector<float> logits = random_rows(64, kVocab, random);
    const auto host = h->host_step(batch, logits);
    expect_agreement(h->device_step(batch, logits), host, batch, *h, agreement);
    batch.slot_ops.clear();
  };
  for (const float temperature : {0.0f, 0.3f, 1.0f, 4.0f})
    for (const int top_k : {0, 1, 40, 300, 1000})
      for (const float typical_p : {1.0f, 0.9f, 0.3f, 0.0f})
        for (const float top_p : {1.0f, 0.95f, 0.5f, 0.0f})
          for (const float min_p : {0.0f, 0.05f, 0.7f, 1.0f}) {
            const auto slot = static_cast<int32_t>(batch.slot_ops.size());
            batch.slot_ops.push_back({.slot = slot,
                                      .sampling = {.temperature = temperature,
                                                   .top_k = top_k,
                                                   .typical_p = typical_p,
                                                   .top_p = top_p,
                                                   .min_p = min_p,
                                                   .seed = random()}});
            if (batch.slot_ops.size() == 64) run();
            if (HasFatalFailure()) return;
          }
  ASSERT_TRUE(batch.slot_ops.empty());
  agreement.print(kVocab);
  EXPECT_LE(agreement.n_different, 1 + agreement.n_rows / 1000);
}

TEST_F(Sampling, EveryVocabulary_DrawsTheHostsTokens) {
  struct Case {
    int vocab_size, n_steps;
  };
  for (const Case c : {Case{2, 4}, {32, 20}, {127, 10}, {129, 10}, {1000, 20}, {4097, 10}, {32001, 6}, {151936, 2}}) {
    const auto h = harness({.vocab_size = c.vocab_size});
    std::mt19937 random(c.vocab_size);
    Agreement agreement;
    for (int step = 0; step < c.n_steps; ++step) {
      const int n_rows = step % 4 == 1 ? static_cast<int>(1 + random() % 63) : 64;
      StepBatch batch = decode_batch(n_rows, c.vocab_size, random);
      reset_slots(batch, c.vocab_size, step % 2 == 1, random);
      for (Row& row : batch.rows) {
        row.n_logprobs = pick({0, 0, 1, 5, 20, 32}, random);
        if (random() % 8 == 0) row.kind = RowKind::kScore, row.target = static_cast<int32_t>(random() % c.vocab_size);
      }
      const std::vector<float> logits = random_rows(n_rows, c.vocab_size, random);
      const auto host = h->host_step(batch, logits);
      const auto device = h->device_step(batch, logits);
      expect_agreement(device, host, batch, *h, agreement);
      if (HasFatalFailure()) return;
      const std::vector<int32_t> drawn = h->drawn();
      for (int r = 0; r < n_rows; ++r) {
        EXPECT_EQ(drawn[r], device[r].token);
        expect_same_top(device[r].top, host[r].top, r);
        if (HasFatalFailure()) return;
      }
    }
    agreement.print(c.vocab_size);
    EXPECT_LE(agreement.n_different, 1 + agreement.n_rows / 500);
  }
}

TEST_F(Sampling, OneRowOrSixtyFour_DrawTheSameToTheBit) {
  for (const int vocab_size : {999, 128256}) {
    const auto h = harness({.vocab_size = vocab_size});
    std::mt19937 random(7);
    StepBatch batch = decode_batch(64, vocab_size, random);
    reset_slots(batch, vocab_size, true, random);
    const std::vector<float> logits = random_rows(64, vocab_size, random);
    const auto together = h->device_step(batch, logits);
    const auto again = h->device_step(batch, logits);
    for (int r = 0; r < 64; ++r) {
      expect_same_bits(again[r], together[r], fmt::format("row {} again", r));
      if (r % 8 != 3) continue;
      StepBatch alone{.tokens = {batch.tokens[r]},
                      .from_row = {-1},
                      .slot_ops = {batch.slot_ops[r]},
                      .slot = {r},
                      .q_start = {0, 1},
                      .kv_len = {batch.kv_len[r]},
                      .groups = {},
                      .rows = {{.token_index = 0, .slot = r}}};
      const auto* row = logits.data() + static_cast<size_t>(r) * vocab_size;
      const auto out = h->device_step(alone, std::vector<float>(row, row + vocab_size));
      expect_same_bits(out[0], together[r], fmt::format("row {} alone", r));
    }
  }
}

TEST_F(Sampling, GreedyPath_IsTheFullPathToTheBit) {
  constexpr int kVocab = 50257;
  const auto h = harness({.vocab_size = kVocab});
  std::mt19937 random(3);
  StepBatch batch = decode_batch(33, kVocab, random);
  for (const int32_t slot : batch.slot) batch.slot_ops.push_back({.slot = slot});
  for (int r = 0; r < 33; r += 3)
    batch.rows[r].kind = RowKind::kScore, batch.rows[r].target = static_cast<int32_t>(random() % kVocab);
  const std::vector<float> logits = random_rows(33, kVocab, random);
  const auto greedy = h->device_step(batch, logits);
  EXPECT_EQ(h->plan().path, SamplingPath::kGreedy);
  const auto full = h->device_step(batch, logits, {}, true);
  for (int r = 0; r < 33; ++r) expect_same_bits(greedy[r], full[r], fmt::format("row {}", r));
  Agreement agreement;
  expect_agreement(greedy, h->host_step(batch, logits), batch, *h, agreement);
  EXPECT_EQ(agreement.n_different, 0);
}

TEST_F(Sampling, UnusualLogits_FollowTheHostsRules) {
  constexpr int kVocab = 5000;
  std::vector<std::vector<float>> rows(9, std::vector<float>(kVocab, -1));
  std::fill(rows[0].begin(), rows[0].end(), -kInfinity);
  std::fill(rows[1].begin(), rows[1].end(), kNan);
  rows[2][4321] = kInfinity;
  rows[3][7] = rows[3][4999] = kInfinity;
  for (int i = 0; i < kVocab; i += 2) rows[4][i] = kNan;
  std::fill(rows[5].begin(), rows[5].end(), -kInfinity);
  rows[5][4098] = -3;
  std::fill(rows[6].begin(), rows[6].end(), 0.0f);
  for (int i = 0; i < kVocab; i += 3) rows[6][i] = -0.0f;
  std::fill(rows[7].begin(), rows[7].end(), -3.4e38f);
  rows[7][17] = 3.4e38f;
  for (int i = 0; i < kVocab; ++i) rows[8][i] = i < 20 ? static_cast<float>(i) : -kInfinity;
  std::vector<float> logits;
  for (const auto& row : rows) logits.insert(logits.end(), row.begin(), row.end());

  const auto h = harness({.vocab_size = kVocab});
  std::mt19937 random(5);
  Agreement agreement;
  for (int round = 0; round < 24; ++round) {
    StepBatch batch = decode_batch(static_cast<int>(rows.size()), kVocab, random);
    reset_slots(batch, kVocab, round >= 12, random);
    for (Row& row : batch.rows) row.n_logprobs = 32;
    const auto host = h->host_step(batch, logits);
    const auto device = h->device_step(batch, logits);
    expect_agreement(device, host, batch, *h, agreement);
    for (size_t r = 0; r < rows.size(); ++r) expect_same_top(device[r].top, host[r].top, r);
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(agreement.n_different, 0);
}

TEST_F(Sampling, PenaltiesOverManySteps_CountWhatTheHostCounts) {
  constexpr int kVocab = 300;
  const auto h = harness({.vocab_size = kVocab, .max_seqs = 16, .max_tokens = 128, .slice_rows = 16});
  std::mt19937 random(11);
  Agreement agreement;
  std::vector<int32_t> kv_len(16);
  std::vector<int> row_of_slot(16, -1);
  for (int step = 0; step < 60; ++step) {
    StepBatch batch;
    batch.q_start = {0};
    for (int slot = 0; slot < 16; ++slot) {
      const bool starts = step == 0 || random() % 10 == 0;
      if (starts) {
        SlotOp op{.slot = slot, .sampling = random_params(kVocab, random)};
        add_random_penalties(op, kVocab, random);
        kv_len[slot] = static_cast<int32_t>(op.history.size());
        batch.slot_ops.push_back(std::move(op));
        row_of_slot[slot] = -1;
      }
      const bool continues = row_of_slot[slot] >= 0;  // with the token that the step before drew
      const int n_tokens = continues ? 1 : static_cast<int>(1 + random() % 7);
      for (int i = 0; i < n_tokens; ++i) {
        batch.tokens.push_back(continues ? -1 : static_cast<int32_t>(random() % kVocab));
        batch.from_row.push_back(continues ? row_of_slot[slot] : -1);
      }
      kv_len[slot] += n_tokens;
      batch.slot.push_back(slot);
      batch.q_start.push_back(batch.n_tokens());
      batch.kv_len.push_back(kv_len[slot]);
      row_of_slot[slot] = -1;
      if (random() % 5 == 0) continue;  // its tokens are counted all the same
      row_of_slot[slot] = batch.n_rows();
      batch.rows.push_back({.token_index = batch.n_tokens() - 1, .slot = slot});
    }
    const std::vector<float> logits = random_rows(batch.n_rows(), kVocab, random);
    const auto host = h->host_step(batch, logits);
    expect_agreement(h->device_step(batch, logits), host, batch, *h, agreement);
    if (HasFatalFailure()) return;
    ASSERT_EQ(agreement.n_different, 0) << "step " << step;  // the next step's tokens would differ
  }
}

TEST_F(Sampling, SeveralRowsOfASlot_EachSeeTheTokensUpToTheirOwn) {
  constexpr int kVocab = 50;
  const auto h = harness({.vocab_size = kVocab, .max_seqs = 4, .max_tokens = 64, .slice_rows = 3});
  std::mt19937 random(13);
  Agreement agreement;
  for (int step = 0; step < 20; ++step) {
    StepBatch batch;
    batch.q_start = {0};
    std::vector<float> hidden;
    for (int slot = 0; slot < 4; ++slot) {
      batch.slot_ops.push_back({.slot = slot,
                                .sampling = {.repetition_penalty = 2, .frequency_penalty = 1.5f, .temperature = 1},
                                .n_prompt_tokens = static_cast<int32_t>(random() % 8)});
      for (int i = 0; i < 8; ++i) {
        batch.tokens.push_back(static_cast<int32_t>(random() % kVocab));
        batch.from_row.push_back(-1);
        if (random() % 3 == 0) continue;
        const auto kind = static_cast<RowKind>(random() % 3);
        batch.rows.push_back({.token_index = batch.n_tokens() - 1, .slot = slot, .kind = kind, .target = 3});
      }
      batch.slot.push_back(slot);
      batch.q_start.push_back(batch.n_tokens());
      batch.kv_len.push_back(8);
    }
    for (int i = 0; i < batch.n_rows() * 5; ++i) hidden.push_back(static_cast<float>(random() % 1000));
    const std::vector<float> logits = random_rows(batch.n_rows(), kVocab, random);
    const auto host = h->host_step(batch, logits);
    const auto device = h->device_step(batch, logits, hidden);
    expect_agreement(device, host, batch, *h, agreement);
    if (HasFatalFailure()) return;
    ASSERT_EQ(agreement.n_different, 0);
    const std::vector<int32_t> drawn = h->drawn();
    for (int r = 0; r < batch.n_rows(); ++r) {
      EXPECT_EQ(drawn[r], host[r].token);
      if (batch.rows[r].kind != RowKind::kHidden) continue;
      EXPECT_EQ(device[r].hidden, std::vector<float>(hidden.begin() + 5 * r, hidden.begin() + 5 * r + 5));
    }
  }
}

TEST_F(Sampling, LongHistoriesAndFullBiasLists_ArriveWhole) {
  constexpr int kVocab = 2000, kSlots = 70;  // more operations than one upload takes
  const auto h = harness({.vocab_size = kVocab, .max_seqs = kSlots, .max_tokens = kSlots, .slice_rows = 32});
  std::mt19937 random(17);
  StepBatch batch = decode_batch(kSlots, kVocab, random);
  std::vector<std::vector<uint32_t>> expected;
  batch.slot_ops.push_back({.slot = 0, .sampling = {.presence_penalty = 9}, .history = {1, 2, 3}});  // replaced below
  for (int slot = 0; slot < kSlots; ++slot) {
    SlotOp op{.slot = slot, .sampling = {.frequency_penalty = 1e-3f}, .n_prompt_tokens = 70000};
    for (int i = slot == 0 ? 150000 : 1000 * (slot % 3); i > 0; --i)
      op.history.push_back(static_cast<int32_t>(random() % kVocab));
    for (int i = 0; i < kMaxLogitBias; ++i)  // tokens repeat
      op.logit_bias.push_back({static_cast<int32_t>(random() % 700), static_cast<float>(random() % 64) / 64});
    batch.kv_len[slot] = static_cast<int32_t>(op.history.size()) + 1;
    std::vector<uint32_t> counts(kVocab);
    for (size_t i = 0; i <= op.history.size(); ++i) {
      uint32_t& count = counts[i < op.history.size() ? op.history[i] : batch.tokens[slot]];
      count = (count | kTokenInContext) + (i >= 70000);
    }
    expected.push_back(std::move(counts));
    batch.slot_ops.push_back(std::move(op));
  }
  const std::vector<float> logits = random_rows(kSlots, kVocab, random);
  const auto host = h->host_step(batch, logits);
  Agreement agreement;
  expect_agreement(h->device_step(batch, logits), host, batch, *h, agreement);
  EXPECT_EQ(agreement.n_different, 0);
  for (int slot = 0; slot < kSlots; ++slot) EXPECT_EQ(h->counts(slot), expected[slot]) << "slot " << slot;
}

TEST_F(Sampling, CapturedGraph_FollowsWhatChangesInMemory) {
  constexpr int kVocab = 32000, kBucket = 16;
  const auto h = harness({.vocab_size = kVocab, .max_seqs = kBucket, .max_tokens = kBucket, .slice_rows = kBucket});
  std::mt19937 random(19);
  StepBatch first = decode_batch(1, kVocab, random);  // a kernel's first launch may not be captured
  h->device_step(first, random_rows(1, kVocab, random), {}, true);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  SPATE_CUDA(cudaStreamBeginCapture(h->stream(), cudaStreamCaptureModeThreadLocal), "capturing");
  sample_rows(h->sample_args(0), SamplingPath::kFull, kBucket, profile_.dependent_launch, h->stream());
  SPATE_CUDA(cudaStreamEndCapture(h->stream(), &graph), "capturing");
  SPATE_CUDA(cudaGraphInstantiate(&exec, graph, 0), "instantiating");
  for (const int n_rows : {16, 3, 9}) {
    StepBatch batch = decode_batch(n_rows, kVocab, random);
    reset_slots(batch, kVocab, false, random);
    for (Row& row : batch.rows) row.n_logprobs = 4;
    const std::vector<float> logits = random_rows(n_rows, kVocab, random);
    h->upload(batch);
    h->upload_logits(logits, {.first = 0, .n = n_rows, .hidden = false});
    SPATE_CUDA(cudaGraphLaunch(exec, h->stream()), "replaying");
    Agreement agreement;
    expect_agreement(h->read(batch), h->host_step(batch, logits), batch, *h, agreement);
    EXPECT_EQ(agreement.n_different, 0);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace spate::cuda::testing
