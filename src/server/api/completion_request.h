// The body of POST /v1/completions (https://platform.openai.com/docs/api-reference/completions/create).
#pragma once

#include <vector>

#include "server/api/generation_fields.h"

namespace spate::api {

inline constexpr int kDefaultCompletionTokens = 16;
inline constexpr size_t kMaxPrompts = 128;
// Log-probabilities of prompts in one answer, alternatives and choices counted: some 20 MB of JSON.
inline constexpr size_t kMaxEchoedScores = size_t{1} << 20;

struct CompletionRequest {
  // At least one; none is empty, all are in the vocabulary, and each has room in the context.
  std::vector<std::vector<TokenId>> prompts = {};
  bool echo = false;  // the prompt's text comes before the answer's
  GenerationFields generation = {};
};

// Error 400 with `param`.
ApiResult<CompletionRequest> parse_completion_request(const Json& body, const ServedModel& model);

// What is generated at most after a prompt that long: what was asked, or 16, or the room that the context has for it.
int max_tokens_of(const CompletionRequest& request, size_t n_prompt, const ServedModel& model);

}  // namespace spate::api
