// Runs of cases on an executor that only counts.
#include "bench/bench_run.h"

#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/bench_row.h"
#include "bench/synth_model.h"

#include "support/test_data.h"

namespace spate::testing {
namespace {

constexpr int kVocabSize = 1024;

class CountingExecutor : public Executor {
 public:
  explicit CountingExecutor(const ExecutorLimits& limits) : limits_(limits) {}

  const ExecutorLimits& limits() const override { return limits_; }
  std::string description() const override { return "counting"; }

  StepId enqueue(const StepBatch& batch) override {
    check_batch(batch, limits_, kVocabSize);
    EXPECT_LT(rows_.size(), static_cast<size_t>(kMaxStepsInFlight));
    for (const int32_t row : batch.from_row) EXPECT_LT(row, last_rows_) << "a token from a row that was not there";
    last_rows_ = batch.n_rows();
    rows_.push_back(batch.n_rows());
    most_in_flight_ = std::max(most_in_flight_, rows_.size());
    n_tokens_ += batch.n_tokens();
    return ++n_steps_;
  }

  Result<StepOutput> wait(StepId step) override {
    EXPECT_EQ(step, n_steps_ - rows_.size() + 1) << "steps are waited for in order";
    StepOutput output;
    output.rows.resize(static_cast<size_t>(rows_.front()));
    rows_.pop_front();
    if (step >= fail_from_) return Error::backend("the device fell over");
    return output;
  }

  size_t n_in_flight() const { return rows_.size(); }

  StepId fail_from_ = ~StepId{0};
  StepId n_steps_ = 0;
  int64_t n_tokens_ = 0;
  size_t most_in_flight_ = 0;

 private:
  ExecutorLimits limits_;
  std::deque<int> rows_;  // of the steps in flight
  int last_rows_ = 0;
};

std::shared_ptr<const Model> tiny_model() {
  static const std::shared_ptr<const Model> model = [] {
    const std::string path = ::testing::TempDir() + "bench_run_tiny.gguf";
    const auto written = write_synth_model({.shape = "tiny", .type = "q4_k_m"}, path, nullptr);
    SPATE_CHECK(written.ok());
    return Model::open(path).value();
  }();
  return model;
}

class BenchRun : public ::testing::Test {
 protected:
  Result<BenchMeasurement> run(const BenchCase& bench_case, const BenchOptions& options,
                               const std::function<bool(double)>& progress = nullptr) {
    executor_ = std::make_unique<CountingExecutor>(bench_limits({bench_case}, 64).value());
    executor_->fail_from_ = fail_from_;
    return run_bench_case(*executor_, bench_case, ModelWork(*tiny_model()), kVocabSize, options, progress);
  }

  std::unique_ptr<CountingExecutor> executor_;
  StepId fail_from_ = ~StepId{0};
};

TEST_F(BenchRun, EveryTest_RunsExactlyTheStepsAskedFor) {
  for (const BenchCase& c : {BenchCase{.test = BenchTest::kPrefill, .n_prompt = 100, .batch = 2, .depth = 70},
                             BenchCase{.test = BenchTest::kDecode, .n_generate = 6, .batch = 5, .depth = 33},
                             BenchCase{.test = BenchTest::kMixed, .n_prompt = 64, .n_generate = 4, .batch = 2}}) {
    const auto measured = run(c, {.repeat = 3, .warmup = 2});
    ASSERT_TRUE(measured.ok()) << measured.error().message;
    EXPECT_EQ(measured->bench_case, c);
    EXPECT_EQ(measured->seconds.size(), 3u);
    for (const double seconds : measured->seconds) EXPECT_GT(seconds, 0);
    EXPECT_EQ(executor_->n_tokens_, int64_t{c.batch} * c.depth + 5 * c.n_tokens());
    const auto n_fill = static_cast<StepId>((c.batch * c.depth + 63) / 64);
    EXPECT_EQ(executor_->n_steps_, n_fill + 5 * static_cast<StepId>(measured->n_steps));
    EXPECT_EQ(executor_->most_in_flight_, static_cast<size_t>(kMaxStepsInFlight));
    EXPECT_EQ(executor_->n_in_flight(), 0u);
  }
}

TEST_F(BenchRun, Progress_GoesFromNothingToAlmostAll) {
  std::vector<double> seen;
  const auto measured = run({.test = BenchTest::kDecode, .n_generate = 8}, {.repeat = 1, .warmup = 1}, [&](double f) {
    seen.push_back(f);
    return true;
  });
  ASSERT_TRUE(measured.ok());
  ASSERT_EQ(seen.size(), 16u);
  EXPECT_EQ(seen.front(), 0);
  EXPECT_EQ(seen.back(), 15.0 / 16);
}

TEST_F(BenchRun, Stopped_LeavesNothingInFlight) {
  const auto measured = run({.test = BenchTest::kDecode, .n_generate = 100}, {}, [](double f) { return f < 0.05; });
  ASSERT_FALSE(measured.ok());
  EXPECT_EQ(measured.error().code, ErrorCode::kInterrupted);
  EXPECT_EQ(executor_->n_in_flight(), 0u);
}

TEST_F(BenchRun, DeviceThatFails_EndsWithItsError) {
  fail_from_ = 9;
  const auto measured = run({.test = BenchTest::kDecode, .n_generate = 5, .batch = 2}, {});
  ASSERT_FALSE(measured.ok());
  EXPECT_EQ(measured.error().code, ErrorCode::kBackend);
  EXPECT_THAT(measured.error().message, ::testing::HasSubstr("fell over"));
}

TEST_F(BenchRun, Row_HasTheRatesOfTheMedianRepetition) {
  BenchMeasurement measurement{.bench_case = {.test = BenchTest::kDecode, .n_generate = 10, .batch = 4},
                               .n_steps = 10,
                               .work = {.bytes = 8e9, .quantised_multiply_adds = 6e9, .float_multiply_adds = 1e9},
                               .seconds = {4, 1, 2}};
  const DevicePeaks peaks{
      .read_bytes_per_s = 1e10, .quantised_multiply_adds_per_s = 3e10, .float_multiply_adds_per_s = 5e9};
  const BenchRow decode = bench_row(measurement, peaks);
  EXPECT_DOUBLE_EQ(decode.tok_s.median, 20);
  EXPECT_DOUBLE_EQ(decode.tok_s.min, 10);
  EXPECT_DOUBLE_EQ(decode.tok_s.max, 40);
  EXPECT_DOUBLE_EQ(decode.tok_s.mad, 10);
  EXPECT_DOUBLE_EQ(decode.seconds, 2);
  EXPECT_DOUBLE_EQ(decode.bytes_per_s, 4e9);
  EXPECT_DOUBLE_EQ(decode.multiply_adds_per_s, 3.5e9);
  EXPECT_DOUBLE_EQ(decode.read_share, 0.4);
  EXPECT_DOUBLE_EQ(decode.math_share, (0.2 + 0.2) / 2);
  EXPECT_DOUBLE_EQ(decode.peak_share, decode.read_share);
  measurement.bench_case = {.test = BenchTest::kPrefill, .n_prompt = 40};
  const BenchRow prefill = bench_row(measurement, peaks);
  EXPECT_DOUBLE_EQ(prefill.peak_share, prefill.math_share);
}

TEST(Spread, EvenAndOddCounts_AreMedianAndItsDeviation) {
  const Spread odd = spread_of({5, 1, 2, 100, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.mad, 2);
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.max, 100);
  const Spread even = spread_of({4, 1});
  EXPECT_EQ(even.median, 2.5);
  EXPECT_EQ(even.mad, 1.5);
}

}  // namespace
}  // namespace spate::testing
