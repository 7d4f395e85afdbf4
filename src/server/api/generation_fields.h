// What requests for generated text have in common: how tokens are drawn, what ends the text, how the answer is sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/api/fields.h"
#include "server/api/served_model.h"

namespace spate::api {

inline constexpr int kMaxTopLogprobs = 20;  // alternatives that a client may ask for
inline constexpr int kMaxStops = 64;        // stop strings
inline constexpr int kMaxStopBytes = 1024;  // of one
inline constexpr int kMaxStopTokens = 64;   // stop_token_ids

struct GenerationFields {
  bool stream = false;
  bool include_usage = false;  // stream_options
  int n = 1;                   // answers to one prompt
  std::optional<int> max_tokens = {};
  SamplingParams sampling = {};  // the seed is the request's, or drawn from the operating system
  std::vector<LogitBias> logit_bias = {};
  std::vector<std::string> stop = {};
  std::vector<int32_t> stop_tokens = {};
  bool ignore_eos = false;
  std::optional<int> n_logprobs = {};  // alternatives a token; absent: no log-probabilities
  std::string cache_salt = {};
  int priority = 0;
};

// cache_salt and priority: what embeddings have in common with them, too.
void read_scheduling(Fields& fields, std::string& cache_salt, int& priority);

// Reads all of them but the API's own fields about log-probabilities. min_tokens: the least that max_tokens may be.
void read_generation(Fields& fields, const ServedModel& model, int min_tokens, GenerationFields& generation);

// Error 404: the request names another model, and only the served one will do.
ApiResult<void> check_model(const Json& body, const ServedModel& model, bool strict);

// Error 400, context_length_exceeded, with the counts, where prompt and answer do not fit in the context. wanted:
// max_tokens; absent, an answer of one token must fit. 0: the prompt alone. prompt_name: what the API calls the prompt,
// "messages".
ApiResult<void> check_context(const ServedModel& model, size_t n_prompt, std::optional<int> wanted,
                              std::string_view prompt_name);

// What the engine is to run, but for prompt_logprobs and what ends a chat's turn.
Request engine_request(const GenerationFields& generation, std::vector<TokenId> prompt);

}  // namespace spate::api
