// Prompts as completions and embeddings take them: a text, ids, or a list of either.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/api/fields.h"
#include "server/api/served_model.h"

namespace spate::api {

// The tokens of each. Texts are tokenised with the special tokens that they spell, and with BOS and EOS as the
// vocabulary asks. Error 400: none of these forms, an id outside the vocabulary, a prompt without tokens, or more than
// max_prompts.
ApiResult<std::vector<std::vector<TokenId>>> parse_prompts(const Json& json, std::string_view name, size_t max_prompts,
                                                           const ServedModel& model);

// A list of ids; it may be empty. Error 400: it is none, or one is outside the vocabulary.
ApiResult<std::vector<TokenId>> parse_ids(const Json& json, const std::string& path, const ServedModel& model);

}  // namespace spate::api
