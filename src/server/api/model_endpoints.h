// GET /v1/models and /v1/models/{id} (https://platform.openai.com/docs/api-reference/models).
#pragma once

#include <string>
#include <string_view>

#include "server/api/served_model.h"

namespace spate::api {

// The served model, by its name and its aliases.
std::string list_models(const ServedModel& model);

// Error 404.
ApiResult<std::string> describe_model(std::string_view id, const ServedModel& model);

}  // namespace spate::api
