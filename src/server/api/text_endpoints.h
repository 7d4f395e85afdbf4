// POST /tokenize, /detokenize and /apply-template: what the model's tokenizer and template make of things. Requests and
// answers are as llama.cpp's server has them.
#pragma once

#include <string>

#include "server/api/json_body.h"
#include "server/api/served_model.h"

namespace spate::api {

// Of one request: an answer's JSON is many times as large.
inline constexpr size_t kMaxTokenizedBytes = size_t{2} << 20;
inline constexpr size_t kMaxDetokenized = size_t{256} << 10;

// {"content": TEXT, "add_special": false, "parse_special": true, "with_pieces": false}, or {"messages": [..], ..} for a
// conversation's prompt. Gives {"tokens": [ids], "count": n, "max_model_len": n}; with pieces the tokens are
// {"id": .., "piece": text, or the list of its bytes}. Error 400, also for a text beyond kMaxTokenizedBytes.
ApiResult<std::string> tokenize(const Json& body, const ServedModel& model);

// {"tokens": [ids]}. Gives {"content": TEXT}, special tokens by their names. Error 400, also for more ids than
// kMaxDetokenized.
ApiResult<std::string> detokenize(const Json& body, const ServedModel& model);

// {"messages": [..], ..} as a chat completion has them. Gives {"prompt": TEXT}. Error 400.
ApiResult<std::string> apply_template(const Json& body, const ServedModel& model);

}  // namespace spate::api
