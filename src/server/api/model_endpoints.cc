#include "server/api/model_endpoints.h"

#include <fmt/core.h>

#include "base/utf8.h"
#include "server/api/json_text.h"

namespace spate::api {
namespace {

std::string model_json(std::string_view id, const ServedModel& model) {
  return fmt::format(R"({{"id":{},"object":"model","created":{},"owned_by":"spate","root":{},"max_model_len":{}}})",
                     json_text(id), model.options().created, json_text(model.name()), model.options().context_tokens);
}

}  // namespace

std::string list_models(const ServedModel& model) {
  std::string list;
  for (const std::string& name : model.options().names) {
    if (!list.empty()) list += ',';
    list += model_json(name, model);
  }
  return R"({"object":"list","data":[)" + list + "]}";
}

ApiResult<std::string> describe_model(std::string_view id, const ServedModel& model) {
  if (model.has_name(id)) return model_json(id, model);
  ApiError error = ApiError::not_found(
      fmt::format("there is no model {}; this server has {}", quote(id), quote(model.name())), "model_not_found");
  error.param = "model";
  return error;
}

}  // namespace spate::api
