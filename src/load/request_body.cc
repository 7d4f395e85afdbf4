#include "load/request_body.h"

#include <nlohmann/json.hpp>

namespace spate::load {

using Json = nlohmann::ordered_json;

std::string_view endpoint_of(Api api) {
  return api == Api::kChat ? "/v1/chat/completions" : "/v1/completions";
}

Result<void> check_request_options(const RequestOptions& options) {
  if (options.more.empty()) return {};
  constexpr int kMaxDepth = 100;  // writing it takes a stack in proportion
  bool is_deep = false;
  const auto look = [&is_deep](int depth, Json::parse_event_t, const Json&) {
    is_deep = is_deep || depth > kMaxDepth;
    return !is_deep;
  };
  const bool is_object = Json::parse(options.more, look, false).is_object();
  if (is_deep)
    return Error::usage(fmt::format("the JSON object to add to requests is nested more than {} deep", kMaxDepth));
  if (is_object) return {};
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
