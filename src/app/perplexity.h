// Perplexity of a text under whatever an Executor runs.
//
// The text's tokens are cut into chunks of `context` tokens without overlap; the last partial chunk is dropped. Each
// chunk is a sequence of its own, without BOS. Its second half is scored: the predictions of tokens context / 2 + 1 ..
// context - 1 from what stands before them in the chunk (255 of 512). Perplexity is exp of the mean negative
// log-likelihood over all chunks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "backend/executor.h"
#include "base/error.h"

namespace spate::app {

inline constexpr int kMinPerplexityContext = 4;  // below, a chunk's second half is empty

struct PerplexityOptions {
  int context = 512;       // tokens a chunk, at least kMinPerplexityContext
  int step_tokens = 512;   // tokens a step at most, 1..context
  int64_t max_chunks = 0;  // chunks run at most; 0 runs them all
};

struct PerplexityEstimate {
  int64_t n_chunks = 0;         // run so far
  int64_t n_chunks_total = 0;   // to run
  int64_t n_tokens_scored = 0;  // so far
  double mean_nll = 0;          // nats a token
  double stderr_nll = 0;        // standard error of mean_nll, tokens taken as independent

  double perplexity() const;
  // First-order: perplexity * stderr_nll.
  double stderr_perplexity() const;
};

// How many chunks of a text with n_tokens tokens are run. Error kUsage: it has not one whole chunk.
Result<int64_t> count_chunks(size_t n_tokens, const PerplexityOptions& options);

// What measure_perplexity() needs of its executor: two chunks' slots and pages, so that a chunk's first step can be in
// flight beside its predecessor's last.
ExecutorLimits perplexity_limits(const PerplexityOptions& options);

// `progress` is called after each chunk and returns false to stop. Error kUsage as count_chunks(); kInterrupted:
// stopped by `progress`; or the executor's.
Result<PerplexityEstimate> measure_perplexity(Executor& executor, std::span<const int32_t> tokens,
                                              const PerplexityOptions& options,
                                              const std::function<bool(const PerplexityEstimate&)>& progress);

}  // namespace spate::app
