// Drives an Executor in tests: sequences of known tokens through steps of any size, one or two in flight.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/executor.h"

namespace spate::testing {

// The executor's view of a sequence of known tokens: entry i is what it made of tokens[0..i].
struct Scored {
  std::vector<int32_t> best;                   // [n] most likely next token
  std::vector<float> next_logprob;             // [n] of the token that does follow; of token 0 for the last entry
  std::vector<std::vector<TokenLogprob>> top;  // [n][n_logprobs]
};

struct ScoreOptions {
  int step_tokens = 1 << 30;  // tokens of the sequence a step (the last step takes the rest)
  int n_logprobs = 0;
  int in_flight = 2;  // steps enqueued before the first is waited for
  int32_t slot = 0;
  int32_t first_page = 0;  // the sequence takes consecutive pages from here
};

// Feeds the tokens, all of them given (teacher forcing), and scores every position. An executor's failure fails the
// test.
Scored score_tokens(Executor& executor, std::span<const int32_t> tokens, const ScoreOptions& options = {});

// Pages that n_tokens take.
inline int pages_of(int n_tokens) {
  return (n_tokens + kPageTokens - 1) / kPageTokens;
}

// exp of the mean negative log-likelihood over chunks of `context` tokens, the second half of each scored, as published
// perplexities are defined. Tokens beyond the last whole chunk, or beyond max_chunks, are left out.
double perplexity(Executor& executor, std::span<const int32_t> tokens, int context, int step_tokens, int max_chunks);

}  // namespace spate::testing
