#include "load/request_body.h"

#include <nlohmann/json.hpp>

namespace spate::load {

using Json = nlohmann::ordered_json;

std::string_view endpoint_of(Api api) {
  return api == Api::kChat ? "/v1/chat/completions" : "/v1/completions";
}

Result<void> check_request_options(const RequestOptions& options) {
  if (options.more.empty() || Json::parse(options.more, nullptr, false).is_object()) return {};
  return Error::usage(fmt::format("'{}' is no JSON object to add to requests", options.more));
}

std::string request_body(const Job& job, const RequestOptions& options, uint32_t seed) {
  Json body = {{"model", options.model}};
  if (options.api == Api::kChat)
    body["messages"] = Json::array({{{"role", "user"}, {"content", job.text}}});
  else if (job.ids.empty())
    body["prompt"] = job.text;
  else
    body["prompt"] = job.ids;
  body["max_tokens"] = job.output_tokens;
  body["temperature"] = options.temperature;
  body["seed"] = seed;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (options.ignore_eos) body["ignore_eos"] = true;
  if (!options.more.empty()) body.update(Json::parse(options.more));
  return body.dump();
}

}  // namespace spate::load
