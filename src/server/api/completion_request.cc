#include "server/api/completion_request.h"

#include <algorithm>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "server/api/prompt_list.h"

namespace spate::api {
namespace {

// What OpenAI has and this server lacks is refused, for ignoring it would change what the answer means.
void refuse_unserved(Fields& fields, const GenerationFields& generation) {
  if (const Json* suffix = fields.find("suffix"); suffix != nullptr && *suffix != "")
    fields.fail("suffix", "suffix: this server only continues texts, it does not fill in what is between two");
  int best_of = generation.n;
  fields.integer("best_of", best_of, 1, kMaxChoices);
  if (best_of != generation.n)
    fields.fail("best_of",
                fmt::format("best_of is {} and n is {}: choosing among answers is not served", best_of, generation.n));
}

ApiResult<void> check_echoed_scores(const CompletionRequest& request) {
  if (!request.echo || !request.generation.n_logprobs) return {};
  size_t n_scores = 0;
  for (const std::vector<TokenId>& ids : request.prompts)
    n_scores += ids.size() * static_cast<size_t>((1 + *request.generation.n_logprobs) * request.generation.n);
  if (n_scores <= kMaxEchoedScores) return {};
  return ApiError::invalid(
      "logprobs", fmt::format("echo with logprobs {} and n {} makes {} log-probabilities; there may be {}: "
                              "ask for fewer, or in several requests",
                              *request.generation.n_logprobs, request.generation.n, n_scores, kMaxEchoedScores));
}

}  // namespace

ApiResult<CompletionRequest> parse_completion_request(const Json& body, const ServedModel& model) {
  CompletionRequest request;
  GenerationFields& generation = request.generation;
  Fields fields(body);
  read_generation(fields, model, 0, generation);
  fields.integer("logprobs", generation.n_logprobs, 0, kMaxTopLogprobs);
  fields.boolean("echo", request.echo);
  refuse_unserved(fields, generation);
  const Json* prompt = fields.find("prompt");
  SPATE_TRY_VOID(fields.result());
  if (prompt == nullptr) return ApiError::invalid("prompt", "prompt is missing", "missing_required_parameter");
  SPATE_TRY(request.prompts, parse_prompts(*prompt, "prompt", kMaxPrompts, model));
  for (const std::vector<TokenId>& ids : request.prompts)
    SPATE_TRY_VOID(check_context(model, ids.size(), generation.max_tokens, "prompt"));
  SPATE_TRY_VOID(check_echoed_scores(request));
  return request;
}

int max_tokens_of(const CompletionRequest& request, size_t n_prompt, const ServedModel& model) {
  const int room = model.options().context_tokens - static_cast<int>(n_prompt);
  return request.generation.max_tokens.value_or(std::min(kDefaultCompletionTokens, room));
}

}  // namespace spate::api
