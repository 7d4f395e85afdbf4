#include "server/api/generation_fields.h"

#include <charconv>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <random>
#include <unordered_map>

#include "base/utf8.h"

namespace spate::api {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int>::max();
constexpr size_t kShownBytes = 40;  // of a client's text in a message

uint64_t drawn_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

void read_seed(Fields& fields, uint64_t& seed) {
  const Json* value = fields.find("seed");
  if (value == nullptr) {
    if (!fields.failed()) seed = drawn_seed();
    return;
  }
  const std::optional<int64_t> number = Fields::as_integer(*value);
  if (value->is_number_unsigned()) {
    seed = value->get<uint64_t>();
  } else if (number) {
    seed = static_cast<uint64_t>(*number);
  } else {
    fields.fail("seed", "seed must be a whole number of 64 bits");
  }
}

void read_sampling(Fields& fields, SamplingParams& sampling) {
  fields.number("temperature", sampling.temperature, 0, 2);
  fields.number("top_p", sampling.top_p, 0, 1);
  fields.number("min_p", sampling.min_p, 0, 1);
  fields.number("typical_p", sampling.typical_p, 0, 1);
  fields.number("presence_penalty", sampling.presence_penalty, -2, 2);
  fields.number("frequency_penalty", sampling.frequency_penalty, -2, 2);
  fields.number("repetition_penalty", sampling.repetition_penalty, 0.01, 10);
  fields.integer("top_k", sampling.top_k, -1, kMaxInt);  // -1 is another way to say all
  sampling.top_k = std::max(sampling.top_k, 0);
  read_seed(fields, sampling.seed);
}

// {"15043": -100, ...}
void read_logit_bias(Fields& fields, const ServedModel& model, std::vector<LogitBias>& biases) {
  const Json* map = fields.find("logit_bias");
  if (map == nullptr) return;
  if (!map->is_object()) return fields.fail("logit_bias", "logit_bias must be an object from token ids to numbers");
  if (map->size() > kMaxLogitBias)
    return fields.fail("logit_bias",
                       fmt::format("logit_bias names {} tokens; it may name {}", map->size(), kMaxLogitBias));
  std::unordered_map<int32_t, float> by_token;  // "7" and "07" are one token
  for (const auto& [key, value] : map->items()) {
    int32_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || !model.has_token(token))
      return fields.fail("logit_bias", fmt::format("logit_bias: {} is no token id of the vocabulary (0..{})",
                                                   quote(key, kShownBytes), model.options().vocab_size - 1));
    constexpr double kMaxBias = 100;
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kMaxBias))
      return fields.fail("logit_bias", fmt::format("logit_bias of token {} must be a number from -{} to {}", token,
                                                   kMaxBias, kMaxBias));
    const auto bias = static_cast<float>(value.get<double>());
    if (!by_token.emplace(token, bias).second)
      return fields.fail("logit_bias", fmt::format("logit_bias names token {} twice", token));
    biases.push_back({.token = token, .bias = bias});
  }
}

void read_stop(Fields& fields, std::vector<std::string>& stops) {
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return;
  const auto add = [&](const Json& text) {
    if (!text.is_string()) return fields.fail("stop", "stop must be a string or a list of strings");
    const auto& bytes = text.get_ref<const std::string&>();
    if (bytes.empty()) return fields.fail("stop", "stop has an empty string, which every text begins with");
    if (bytes.size() > kMaxStopBytes)
      return fields.fail("stop",
                         fmt::format("stop has a string of {} bytes; it may have {}", bytes.size(), kMaxStopBytes));
    stops.push_back(bytes);
  };
  if (!stop->is_array()) return add(*stop);
  if (stop->size() > kMaxStops)
    return fields.fail(ApiError::invalid(fields.path_of("stop"),
                                         fmt::format("stop has {} strings; it may have {}", stop->size(), kMaxStops),
                                         "array_above_max_length"));
  for (const Json& text : *stop) {
    add(text);
    if (fields.failed()) return;
  }
}

void read_stop_tokens(Fields& fields, const ServedModel& model, std::vector<int32_t>& tokens) {
  const Json* list = fields.find("stop_token_ids");
  if (list == nullptr) return;
  if (!list->is_array() || list->size() > kMaxStopTokens)
    return fields.fail("stop_token_ids",
                       fmt::format("stop_token_ids must be a list of at most {} ids", kMaxStopTokens));
  for (const Json& id : *list) {
    const std::optional<int64_t> token = Fields::as_integer(id);
    if (!token || !model.has_token(*token))
      return fields.fail("stop_token_ids",
                         fmt::format("stop_token_ids: {} is no token id of the vocabulary (0..{})",
                                     quote(id.dump(-1, ' ', true), kShownBytes), model.options().vocab_size - 1));
    tokens.push_back(static_cast<int32_t>(*token));
  }
}

void read_stream(Fields& fields, GenerationFields& generation) {
  fields.boolean("stream", generation.stream);
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!generation.stream)
    return fields.fail("stream_options", "stream_options say how to stream, but stream is not true");
  if (!options->is_object()) return fields.fail("stream_options", "stream_options must be an object");
  Fields inner(*options, "stream_options");
  inner.boolean("include_usage", generation.include_usage);
  if (const ApiResult<void> result = inner.result(); !result) fields.fail(result.error());
}

}  // namespace

void read_scheduling(Fields& fields, std::string& cache_salt, int& priority) {
  fields.text("cache_salt", cache_salt, kMaxCacheSaltBytes);
  fields.integer("priority", priority, kMinPriority, kMaxPriority);
}

void read_generation(Fields& fields, const ServedModel& model, int min_tokens, GenerationFields& generation) {
  generation.sampling = model.options().sampling;
  read_stream(fields, generation);
  fields.integer("n", generation.n, 1, kMaxChoices);
  fields.integer("max_tokens", generation.max_tokens, min_tokens, kMaxInt);
  read_sampling(fields, generation.sampling);
  read_logit_bias(fields, model, generation.logit_bias);
  read_stop(fields, generation.stop);
  read_stop_tokens(fields, model, generation.stop_tokens);
  fields.boolean("ignore_eos", generation.ignore_eos);
  read_scheduling(fields, generation.cache_salt, generation.priority);
}

ApiResult<void> check_model(const Json& body, const ServedModel& model, bool strict) {
  Fields fields(body);
  const Json* name = fields.find("model");
  if (name != nullptr && !name->is_string())
    return ApiError::invalid("model", "model must be the name of a model", "invalid_type");
  if (!strict) return {};
  if (name == nullptr)
    return ApiError::invalid("model", fmt::format("model is missing; this server has {}", quote(model.name())),
                             "missing_required_parameter");
  const auto& asked = name->get_ref<const std::string&>();
  if (model.has_name(asked)) return {};
  ApiError error = ApiError::not_found(
      fmt::format("there is no model {}; this server has {}", quote(asked), quote(model.name())), "model_not_found");
  error.param = "model";
  return error;
}

ApiResult<void> check_context(const ServedModel& model, size_t n_prompt, std::optional<int> wanted,
                              std::string_view prompt_name) {
  const auto context = static_cast<size_t>(model.options().context_tokens);
  const auto n_wanted = static_cast<size_t>(wanted.value_or(1));
  if (n_prompt + n_wanted <= context) return {};
  std::string counts = fmt::format("{} in the {}", n_prompt, prompt_name);
  if (n_wanted > 0) counts += fmt::format(" and {}{} for the completion", wanted ? "" : "at least ", n_wanted);
  const std::string_view remedy = n_prompt < context ? " or ask for fewer tokens" : "";
  return ApiError::invalid(
      std::string(prompt_name),
      fmt::format("This model's maximum context length is {} tokens, and this request needs {}: {}. Shorten the {}{}.",
                  context, n_prompt + n_wanted, counts, prompt_name, remedy),
      "context_length_exceeded");
}

Request engine_request(const GenerationFields& generation, std::vector<TokenId> prompt) {
  return {.prompt = std::move(prompt),
          .max_tokens = generation.max_tokens,
          .sampling = generation.sampling,
          .logit_bias = generation.logit_bias,
          .stop_strings = generation.stop,
          .stop_tokens = generation.stop_tokens,
          .ignore_eos = generation.ignore_eos,
          .n_logprobs = generation.n_logprobs.value_or(0),
          .n_choices = generation.n,
          .priority = generation.priority,
          .cache_salt = generation.cache_salt};
}

}  // namespace spate::api
