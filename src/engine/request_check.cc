#include "engine/request_check.h"

#include <cmath>

#include "base/utf8.h"

namespace spate {
namespace {

Result<void> check_token(int32_t token, int vocab_size, std::string_view what) {
  if (token >= 0 && token < vocab_size) return {};
  return Error::usage(fmt::format("{} {} is not in the vocabulary (0..{})", what, token, vocab_size - 1));
}

Result<void> check_range(float value, float min, float max, std::string_view name) {
  if (value >= min && value <= max) return {};  // false for NaN
  if (std::isinf(max)) return Error::usage(fmt::format("{} is {}; it must be at least {}", name, value, min));
  return Error::usage(fmt::format("{} is {}; it must be from {} to {}", name, value, min, max));
}

Result<void> check_finite(float value, std::string_view name) {
  if (std::isfinite(value)) return {};
  return Error::usage(fmt::format("{} is {}; it must be a finite number", name, value));
}

Result<void> check_sampling(const SamplingParams& sampling) {
  SPATE_TRY_VOID(check_finite(sampling.repetition_penalty, "repetition_penalty"));
  if (sampling.repetition_penalty <= 0)
    return Error::usage(
        fmt::format("repetition_penalty is {}; it must be above 0 (1 changes nothing)", sampling.repetition_penalty));
  SPATE_TRY_VOID(check_finite(sampling.presence_penalty, "presence_penalty"));
  SPATE_TRY_VOID(check_finite(sampling.frequency_penalty, "frequency_penalty"));
  SPATE_TRY_VOID(check_finite(sampling.temperature, "temperature"));
  SPATE_TRY_VOID(check_range(sampling.temperature, 0, INFINITY, "temperature"));
  if (sampling.top_k < 0)
    return Error::usage(fmt::format("top_k is {}; it must be at least 0 (0 keeps all)", sampling.top_k));
  SPATE_TRY_VOID(check_range(sampling.typical_p, 0, 1, "typical_p"));
  SPATE_TRY_VOID(check_range(sampling.top_p, 0, 1, "top_p"));
  return check_range(sampling.min_p, 0, 1, "min_p");
}

Result<void> check_stops(const Request& request, const RequestLimits& limits) {
  for (const int32_t token : request.stop_tokens) SPATE_TRY_VOID(check_token(token, limits.vocab_size, "stop token"));
  if (!request.stop_strings.empty() && !limits.has_text)
    return Error::usage("stop strings need a tokenizer, and this model has none; use stop tokens");
  for (size_t i = 0; i < request.stop_strings.size(); ++i) {
    if (request.stop_strings[i].empty()) return Error::usage(fmt::format("stop string {} is empty", i + 1));
    if (!is_valid_utf8(request.stop_strings[i]))
      return Error::usage(fmt::format("stop string {} is not valid UTF-8", i + 1));
  }
  return {};
}

Result<void> check_lengths(const Request& request, const RequestLimits& limits) {
  if (request.prompt.empty()) return Error::usage("the prompt has no tokens");
  if (request.max_tokens.value_or(0) < 0)
    return Error::usage(fmt::format("max_tokens is {}; it must be at least 0", *request.max_tokens));
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  const int n_wanted = request.max_tokens == 0 ? 0 : 1;
  if (n_prompt + n_wanted <= limits.context_tokens) return {};
  return Error::out_of_resources(
      fmt::format("the prompt has {} tokens, and the context of {} has no room for {}: shorten "
                  "the prompt or start with a larger context",
                  n_prompt, limits.context_tokens, n_wanted == 0 ? "it" : "an answer"));
}

// What decides over the request as a whole, and its place among others.
Result<void> check_service(const Request& request) {
  if (request.n_choices < 1 || request.n_choices > kMaxChoices)
    return Error::usage(
        fmt::format("{} choices are asked for; it must be from 1 to {}", request.n_choices, kMaxChoices));
  if (request.priority < kMinPriority || request.priority > kMaxPriority)
    return Error::usage(
        fmt::format("priority is {}; it must be from {} to {}", request.priority, kMinPriority, kMaxPriority));
  if (request.cache_salt.size() > kMaxCacheSaltBytes)
    return Error::usage(
        fmt::format("cache_salt has {} bytes; it may have {}", request.cache_salt.size(), kMaxCacheSaltBytes));
  if (request.pooling == Pooling::kNone) return {};
  if (request.max_tokens != 0 || request.n_choices != 1 || request.prompt_logprobs)
    return Error::usage("an embedding comes alone: max_tokens must be 0, choices 1, and no log-probabilities");
  return {};
}

}  // namespace

Result<void> check_request(const Request& request, const RequestLimits& limits) {
  SPATE_TRY_VOID(check_lengths(request, limits));
  for (const int32_t token : request.prompt) SPATE_TRY_VOID(check_token(token, limits.vocab_size, "prompt token"));
  SPATE_TRY_VOID(check_sampling(request.sampling));
  if (request.logit_bias.size() > kMaxLogitBias)
    return Error::usage(
        fmt::format("logit_bias names {} tokens; it may name {}", request.logit_bias.size(), kMaxLogitBias));
  for (const LogitBias& bias : request.logit_bias) {
    SPATE_TRY_VOID(check_token(bias.token, limits.vocab_size, "logit_bias: token"));
    if (std::isnan(bias.bias)) return Error::usage(fmt::format("logit_bias of token {} is not a number", bias.token));
  }
  if (request.n_logprobs < 0 || request.n_logprobs > kMaxLogprobs)
    return Error::usage(fmt::format("logprobs is {}; it must be from 0 to {}", request.n_logprobs, kMaxLogprobs));
  SPATE_TRY_VOID(check_service(request));
  return check_stops(request, limits);
}

}  // namespace spate
