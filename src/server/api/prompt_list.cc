#include "server/api/prompt_list.h"

#include <algorithm>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace spate::api {
namespace {

using Prompts = std::vector<std::vector<TokenId>>;

ApiError not_a_prompt(const std::string& path) {
  return ApiError::invalid(path, fmt::format("{} must be a string, a list of token ids, or a list of either", path),
                           "invalid_type");
}

ApiResult<std::vector<TokenId>> text_prompt(const Json& text, const std::string& path, const ServedModel& model) {
  SPATE_TRY_VOID(model.check_bytes(text.get_ref<const std::string&>().size(), path));
  std::vector<TokenId> ids = model.tokenizer().encode(text.get_ref<const std::string&>());
  if (ids.empty())
    return ApiError::invalid(path, fmt::format("{} is empty, and this model adds no token of its own", path));
  return ids;
}

ApiError no_token(const Json& value, const std::string& path, const ServedModel& model) {
  if (!value.is_number()) return ApiError::invalid(path, fmt::format("{} is no token id", path), "invalid_type");
  return ApiError::invalid(path, fmt::format("{} is {}, which is not in the vocabulary (0..{})", path, value.dump(),
                                             model.options().vocab_size - 1));
}

ApiResult<std::vector<TokenId>> one_prompt(const Json& json, const std::string& path, const ServedModel& model) {
  if (json.is_string()) return text_prompt(json, path, model);
  if (json.is_array() && json.empty()) return ApiError::invalid(path, fmt::format("{} is an empty list", path));
  if (json.is_array()) return parse_ids(json, path, model);
  return not_a_prompt(path);
}

}  // namespace

ApiResult<std::vector<TokenId>> parse_ids(const Json& json, const std::string& path, const ServedModel& model) {
  if (!json.is_array())
    return ApiError::invalid(path, fmt::format("{} must be a list of token ids", path), "invalid_type");
  std::vector<TokenId> ids;
  ids.reserve(json.size());
  for (const Json& value : json) {
    const std::optional<int64_t> id = Fields::as_integer(value);
    if (!id || !model.has_token(*id)) return no_token(value, fmt::format("{}[{}]", path, ids.size()), model);
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

ApiResult<Prompts> parse_prompts(const Json& json, std::string_view name, size_t max_prompts,
                                 const ServedModel& model) {
  const std::string path(name);
  const bool is_list_of_prompts = json.is_array() && !json.empty() && !json.front().is_number();
  if (!is_list_of_prompts) {
    SPATE_TRY(std::vector<TokenId> ids, one_prompt(json, path, model));
    return Prompts{std::move(ids)};
  }
  if (json.size() > max_prompts)
    return ApiError::invalid(path, fmt::format("{} is a list of {}; there may be {}", path, json.size(), max_prompts),
                             "array_above_max_length");
  Prompts prompts;
  for (const Json& entry : json) {
    SPATE_TRY(std::vector<TokenId> ids, one_prompt(entry, fmt::format("{}[{}]", path, prompts.size()), model));
    prompts.push_back(std::move(ids));
  }
  return prompts;
}

}  // namespace spate::api
