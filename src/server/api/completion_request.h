// The body of POST /v1/completions (https://platform.openai.com/docs/api-reference/completions/create).
#pragma once

#include <vector>

#include "server/api/generation_fields.h"

namespace spate::api {

inline constexpr int kDefaultCompletionTokens = 16;

struct CompletionRequest {
  std::vector<std::vector<TokenId>> prompts;  // at least one; none empty, all in the vocabulary
  bool echo = false;                          // the prompt's text comes before the answer's
  GenerationFields generation;                // max_tokens is set
};

// Error 400 with `param`.
ApiResult<CompletionRequest> parse_completion_request(const Json& body, const ServedModel& model);

}  // namespace spate::api
