#include "support/executor_driver.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <gtest/gtest.h>

namespace spate::testing {

namespace {

StepBatch score_step(std::span<const int32_t> tokens, int begin, int end, const ScoreOptions& options) {
  StepBatch batch;
  batch.tokens.assign(tokens.begin() + begin, tokens.begin() + end);
  batch.from_row.assign(end - begin, -1);
  if (begin == 0) batch.slot_ops.push_back({.slot = options.slot});
  batch.slot = {options.slot};
  batch.q_start = {0, end - begin};
  batch.kv_len = {end};
  PageTable table;
  table.start = {0, pages_of(end)};
  for (int i = 0; i < pages_of(end); ++i) table.pages.push_back(options.first_page + i);
  batch.groups.push_back(table);
  for (int i = begin; i < end; ++i) {
    const int32_t target = i + 1 < static_cast<int>(tokens.size()) ? tokens[i + 1] : 0;
    batch.rows.push_back({.token_index = i - begin,
                          .slot = options.slot,
                          .kind = RowKind::kScore,
                          .target = target,
                          .n_logprobs = options.n_logprobs});
  }
  return batch;
}

}  // namespace

Scored score_tokens(Executor& executor, std::span<const int32_t> tokens, const ScoreOptions& options) {
  Scored scored;
  std::deque<StepId> in_flight;
  const auto collect = [&] {
    Result<StepOutput> output = executor.wait(in_flight.front());
    in_flight.pop_front();
    if (!output.ok()) {
      ADD_FAILURE() << output.error().message;
      return;
    }
    for (RowOutput& row : output->rows) {
      scored.best.push_back(row.token);
      scored.next_logprob.push_back(row.logprob);
      scored.top.push_back(std::move(row.top));
    }
  };
  const int n = static_cast<int>(tokens.size());
  const int step = std::min(options.step_tokens, executor.limits().max_step_tokens);
  for (int begin = 0; begin < n; begin += step) {
    in_flight.push_back(executor.enqueue(score_step(tokens, begin, std::min(begin + step, n), options)));
    if (static_cast<int>(in_flight.size()) >= options.in_flight) collect();
  }
  while (!in_flight.empty()) collect();
  return scored;
}

double perplexity(Executor& executor, std::span<const int32_t> tokens, int context, int step_tokens, int max_chunks) {
  const int n_chunks = std::min(static_cast<int>(tokens.size()) / context, max_chunks);
  double nll = 0;
  int64_t n_scored = 0;
  for (int chunk = 0; chunk < n_chunks; ++chunk) {
    const Scored scored = score_tokens(executor, tokens.subspan(static_cast<size_t>(chunk) * context, context),
                                       {.step_tokens = step_tokens});
    for (int i = context / 2; i + 1 < context; ++i, ++n_scored) nll -= scored.next_logprob[i];
  }
  return std::exp(nll / static_cast<double>(n_scored));
}

}  // namespace spate::testing
