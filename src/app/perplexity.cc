#include "app/perplexity.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "base/check.h"

namespace spate::app {

namespace {

// Chunks take turns at two slots: when a chunk's first step is enqueued, at most one step is in flight, and that is of
// the chunk before it.
constexpr int kSlots = 2;

int pages_per_chunk(const PerplexityOptions& options) {
  return (options.context + kPageTokens - 1) / kPageTokens;
}

// Positions [begin, end) of a chunk, as one step.
struct StepPlan {
  int64_t chunk = 0;
  int begin = 0;
  int end = 0;
};

StepBatch make_batch(const StepPlan& plan, std::span<const int32_t> tokens, const PerplexityOptions& options) {
  const int slot = static_cast<int>(plan.chunk % kSlots);
  const std::span<const int32_t> chunk =
      tokens.subspan(static_cast<size_t>(plan.chunk) * options.context, static_cast<size_t>(options.context));
  const int n_tokens = plan.end - plan.begin;
  StepBatch batch;
  batch.tokens.assign(chunk.begin() + plan.begin, chunk.begin() + plan.end);
  batch.from_row.assign(static_cast<size_t>(n_tokens), -1);
  if (plan.begin == 0) {
    SlotOp reset;
    reset.slot = slot;
    reset.n_prompt_tokens = options.context;
    batch.slot_ops.push_back(std::move(reset));
  }
  batch.slot = {slot};
  batch.q_start = {0, n_tokens};
  batch.kv_len = {plan.end};
  const int n_pages = (plan.end + kPageTokens - 1) / kPageTokens;
  PageTable table{.start = {0, n_pages}, .pages = std::vector<int32_t>(static_cast<size_t>(n_pages))};
  std::iota(table.pages.begin(), table.pages.end(), slot * pages_per_chunk(options));
  batch.groups.push_back(std::move(table));
  for (int position = std::max(plan.begin, options.context / 2); position < std::min(plan.end, options.context - 1);
       ++position) {
    batch.rows.push_back({.token_index = position - plan.begin,
                          .slot = slot,
                          .kind = RowKind::kScore,
                          .target = chunk[static_cast<size_t>(position) + 1]});
  }
  return batch;
}

// Running mean and variance (Welford 1962).
class Mean {
 public:
  void add(double value) {
    ++count_;
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (value - mean_);
  }
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double standard_error() const {
    if (count_ < 2) return 0;
    const double n = static_cast<double>(count_);
    return std::sqrt(squares_ / (n - 1) / n);
  }

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

// One measurement: steps go in, and the oldest is taken out whenever kMaxStepsInFlight are under way.
class Measurement {
 public:
  Measurement(Executor& executor, int context, int64_t n_chunks)
      : executor_(executor), context_(context), n_chunks_(n_chunks) {}

  Result<void> run(std::span<const int32_t> tokens, const PerplexityOptions& options,
                   const std::function<bool(const PerplexityEstimate&)>& progress) {
    for (StepPlan plan; plan.chunk < n_chunks_; ++plan.chunk) {
      for (plan.begin = 0; plan.begin < context_; plan.begin = plan.end) {
        plan.end = std::min(plan.begin + options.step_tokens, context_);
        if (in_flight_.size() == kMaxStepsInFlight) SPATE_TRY_VOID(take_oldest(progress));
        in_flight_.push_back({executor_.enqueue(make_batch(plan, tokens, options)), plan});
      }
    }
    while (!in_flight_.empty()) SPATE_TRY_VOID(take_oldest(progress));
    return {};
  }

  // Waits for what an early end left in flight.
  void drain() {
    for (; !in_flight_.empty(); in_flight_.pop_front())
      if (!executor_.wait(in_flight_.front().id)) return;  // after a failure, every later step fails too
  }

  PerplexityEstimate estimate() const {
    return {.n_chunks = chunks_done_,
            .n_chunks_total = n_chunks_,
            .n_tokens_scored = nll_.count(),
            .mean_nll = nll_.mean(),
            .stderr_nll = nll_.standard_error()};
  }

 private:
  struct InFlight {
    StepId id;
    StepPlan plan;
  };

  Result<void> take_oldest(const std::function<bool(const PerplexityEstimate&)>& progress) {
    const InFlight step = in_flight_.front();
    in_flight_.pop_front();
    SPATE_TRY(const StepOutput output, executor_.wait(step.id));
    for (const RowOutput& row : output.rows) nll_.add(-static_cast<double>(row.logprob));
    if (step.plan.end < context_) return {};
    ++chunks_done_;
    if (progress && !progress(estimate()))
      return Error::interrupted(fmt::format("stopped after {} of {} chunks", chunks_done_, n_chunks_));
    return {};
  }

  Executor& executor_;
  int context_;
  int64_t n_chunks_, chunks_done_ = 0;
  std::deque<InFlight> in_flight_;
  Mean nll_;
};

}  // namespace

double PerplexityEstimate::perplexity() const {
  return std::exp(mean_nll);
}

double PerplexityEstimate::stderr_perplexity() const {
  return perplexity() * stderr_nll;
}

Result<int64_t> count_chunks(size_t n_tokens, const PerplexityOptions& options) {
  const int64_t n_chunks = static_cast<int64_t>(n_tokens) / options.context;
  if (n_chunks == 0)
    return Error::usage(
        fmt::format("the text has {} tokens, fewer than one chunk of {}; take a longer text or a "
                    "smaller --context",
                    n_tokens, options.context));
  return options.max_chunks > 0 ? std::min(n_chunks, options.max_chunks) : n_chunks;
}

ExecutorLimits perplexity_limits(const PerplexityOptions& options) {
  return {.max_seqs = kSlots, .max_step_tokens = options.step_tokens, .n_pages = kSlots * pages_per_chunk(options)};
}

Result<PerplexityEstimate> measure_perplexity(Executor& executor, std::span<const int32_t> tokens,
                                              const PerplexityOptions& options,
                                              const std::function<bool(const PerplexityEstimate&)>& progress) {
  SPATE_CHECK(options.context >= kMinPerplexityContext && options.step_tokens >= 1 &&
                  options.step_tokens <= options.context && options.max_chunks >= 0,
              "context {}, step_tokens {}, max_chunks {}", options.context, options.step_tokens, options.max_chunks);
  SPATE_TRY(const int64_t n_chunks, count_chunks(tokens.size(), options));
  Measurement measurement(executor, options.context, n_chunks);
  const Result<void> run = measurement.run(tokens, options, progress);
  if (!run) {
    measurement.drain();
    return run.error();
  }
  return measurement.estimate();
}

}  // namespace spate::app
