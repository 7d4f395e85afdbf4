#include "bench/bench_run.h"

#include <chrono>
#include <deque>

#include "base/check.h"

namespace spate {

namespace {

// Enqueues steps and waits for the oldest once as many are in flight as may be.
class Pipeline {
 public:
  explicit Pipeline(Executor& executor) : executor_(executor) {}
  ~Pipeline() {
    // What an early end left in flight; after a failure every later step fails too.
    while (!in_flight_.empty())
      if (!take_oldest()) return;
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  Result<void> push(const StepBatch& batch) {
    if (in_flight_.size() == kMaxStepsInFlight) SPATE_TRY_VOID(take_oldest());
    in_flight_.push_back(executor_.enqueue(batch));
    return {};
  }
  Result<void> finish() {
    while (!in_flight_.empty()) SPATE_TRY_VOID(take_oldest());
    return {};
  }

 private:
  Result<void> take_oldest() {
    const StepId id = in_flight_.front();
    in_flight_.pop_front();
    const Result<StepOutput> output = executor_.wait(id);
    if (output.ok()) return {};
    in_flight_.clear();
    return output.error();
  }

  Executor& executor_;
  std::deque<StepId> in_flight_;
};

}  // namespace

Result<BenchMeasurement> run_bench_case(Executor& executor, const BenchCase& bench_case, const ModelWork& work,
                                        int vocab_size, const BenchOptions& options,
                                        const std::function<bool(double fraction)>& progress) {
  SPATE_CHECK(options.repeat >= 1 && options.warmup >= 0, "{} repetitions after {}", options.repeat, options.warmup);
  const BenchSteps steps(bench_case, executor.limits().max_step_tokens, vocab_size, options.seed);
  const std::vector<StepBatch> fill = steps.fill(), measured = steps.measured();
  const size_t n_repetitions = static_cast<size_t>(options.warmup) + static_cast<size_t>(options.repeat);
  const auto n_total = static_cast<double>(fill.size() + n_repetitions * measured.size());
  double n_done = 0;
  const auto run = [&](const std::vector<StepBatch>& batches) -> Result<void> {
    Pipeline pipeline(executor);
    for (const StepBatch& batch : batches) {
      if (progress && !progress(n_done++ / n_total))
        return Error::interrupted("stopped before everything was measured");
      SPATE_TRY_VOID(pipeline.push(batch));
    }
    return pipeline.finish();
  };

  BenchMeasurement measurement{
      .bench_case = bench_case, .n_steps = static_cast<int>(measured.size()), .work = {}, .seconds = {}};
  for (const StepBatch& batch : measured) measurement.work += work.of_step(batch);
  SPATE_TRY_VOID(run(fill));
  for (int i = -options.warmup; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    SPATE_TRY_VOID(run(measured));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i >= 0) measurement.seconds.push_back(seconds);
  }
  return measurement;
}

}  // namespace spate
