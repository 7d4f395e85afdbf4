// What a client asks of the engine, and what it gets back.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "backend/executor.h"
#include "base/error.h"

namespace spate {

using RequestId = uint64_t;  // from 1, never reused
using EngineClock = std::chrono::steady_clock;
using EngineTime = EngineClock::time_point;

inline constexpr int kMaxChoices = 8;
inline constexpr int kMinPriority = -100, kMaxPriority = 100;
inline constexpr size_t kMaxCacheSaltBytes = 1024;

// What becomes of the final hidden states of a prompt.
enum class Pooling : uint8_t {
  kNone,  // nothing is asked of them
  kLast,  // the last token's
  kMean,  // the mean over all of the prompt's tokens; runs the whole prompt, whatever the cache holds
};

struct Request {
  std::vector<int32_t> prompt = {};    // at least one token
  std::optional<int> max_tokens = {};  // to generate at most, >= 0; none: until the context is full
  SamplingParams sampling = {};
  std::vector<LogitBias> logit_bias = {};
  std::vector<std::string> stop_strings = {};  // UTF-8, not empty; generation ends where the first one ends in the text
  std::vector<int32_t> stop_tokens = {};       // end generation, besides the vocabulary's end_of_generation
  bool ignore_eos = false;                     // the vocabulary's end_of_generation does not end this one
  int n_logprobs = 0;                          // most likely alternatives for each token, at most kMaxLogprobs
  bool prompt_logprobs = false;                // score the prompt's tokens too; of choice 0 alone
  // Answers to the one prompt, [1, kMaxChoices]; they share the pages of its KV. Choice i draws as a request of its own
  // with the seed sampling.seed + i would, and ends for itself.
  int n_choices = 1;
  int priority = 0;                         // [kMinPriority, kMaxPriority], higher first; scheduler.h says how much
  std::optional<EngineTime> deadline = {};  // ends with FinishReason::kDeadline there, wherever it is by then
  std::string cache_salt = {};              // requests share cached KV only with those of equal salt
  Pooling pooling = Pooling::kNone;         // other than kNone: max_tokens is 0, n_choices is 1
};

enum class FinishReason {
  kStop,       // an end token or a stop string
  kLength,     // max_tokens, or the context is full
  kCancelled,  // by Engine::cancel
  kDeadline,   // the request's deadline passed
  kError,      // the executor failed, or the engine was stopped
};
inline constexpr int kFinishReasons = 5;

// What a choice took. The times are contiguous: their sum is the time from submission to the end.
struct RequestCost {
  int n_prompt_tokens = 0;
  int n_cached_tokens = 0;     // of the prompt: their KV was there when the choice was first admitted
  int n_generated_tokens = 0;  // drawn, the end token too
  int n_preemptions = 0;
  double queue_seconds = 0;    // until its first step was enqueued
  double prefill_seconds = 0;  // from there to its first token (to the end, where none was drawn)
  double decode_seconds = 0;   // from there to the end
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  std::optional<int32_t> end_token = {};        // kStop by a token: the last of the tokens delivered
  std::optional<std::string> stop_string = {};  // kStop by a stop string
  std::optional<Error> error = {};              // kError
  RequestCost cost = {};
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

// What one step adds to the output of one of a request's choices.
struct OutputDelta {
  int choice = 0;                           // [0, n_choices)
  std::vector<PromptToken> prompt = {};     // with prompt_logprobs: the prompt's tokens from the second, in order
  std::vector<GeneratedToken> tokens = {};  // every token drawn, the end token and those of a stop string too
  // The text that is certain by now, in whole characters. Text that may become part of a stop string is held back; end
  // tokens and stop strings never appear. Empty without a tokenizer.
  std::string text = {};
  std::vector<float> embedding = {};  // [d_model], with pooling: in the last delta, unless it ended early
  std::optional<Finish> finish = {};  // set in the choice's last delta, and only there
};

// Called by the thread that runs the engine. It may submit and cancel requests, but not run the engine. The request is
// over when each of its choices has had its last delta; the sink is let go of then.
using OutputSink = std::function<void(RequestId, OutputDelta)>;

}  // namespace spate
