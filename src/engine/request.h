// What a client asks of the engine, and what it gets back.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/executor.h"
#include "base/error.h"

namespace spate {

using RequestId = uint64_t;  // from 1, never reused

struct Request {
  std::vector<int32_t> prompt = {};    // at least one token
  std::optional<int> max_tokens = {};  // to generate at most, >= 0; none: until the context is full
  SamplingParams sampling = {};
  std::vector<LogitBias> logit_bias = {};
  std::vector<std::string> stop_strings = {};  // UTF-8, not empty; generation ends where the first one ends in the text
  std::vector<int32_t> stop_tokens = {};       // end generation, besides the vocabulary's end_of_generation
  bool ignore_eos = false;                     // the vocabulary's end_of_generation does not end this one
  int n_logprobs = 0;                          // most likely alternatives for each token, at most kMaxLogprobs
  bool prompt_logprobs = false;                // score the prompt's tokens too
};

enum class FinishReason {
  kStop,       // an end token or a stop string
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by Engine::cancel
  kError,      // the executor failed
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> end_token = {};        // kStop by a token: the last of the tokens delivered
  std::optional<std::string> stop_string = {};  // kStop by a stop string
  std::optional<Error> error = {};              // kError
};

struct GeneratedToken {
  int32_t token = 0;
  float logprob = 0;                   // under the model's own distribution, before bias, penalties and filters
  std::vector<TokenLogprob> top = {};  // [n_logprobs]
};

struct PromptToken {
  int32_t token = 0;    // of the prompt
  float logprob = 0;    // given the tokens before it
  int32_t arg_max = 0;  // the most likely token in its place
  std::vector<TokenLogprob> top = {};
};

// What one step adds to a request's output.
struct OutputDelta {
  std::vector<PromptToken> prompt = {};     // with prompt_logprobs: the prompt's tokens from the second, in order
  std::vector<GeneratedToken> tokens = {};  // every token drawn, the end token and those of a stop string too
  // The text that is certain by now, in whole characters. Text that may become part of a stop string is held back; end
  // tokens and stop strings never appear. Empty without a tokenizer.
  std::string text = {};
  std::optional<Finish> finish = {};  // set in the last delta, and only there
};

// Called by the thread that runs the engine. It may submit and cancel requests, but not run the engine.
using OutputSink = std::function<void(RequestId, const OutputDelta&)>;

}  // namespace spate
