// What a request says.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

#include "load/workload.h"

namespace spate::load {

enum class Api { kCompletions, kChat };

struct RequestOptions {
  Api api = Api::kCompletions;
  std::string model = "default";
  double temperature = 0;
  bool ignore_eos = true;  // an extension of servers for self-hosting: answers do not end before their length
  std::string more = {};   // a JSON object whose members are added, or replace those of the same name
};

// The path of the API's endpoint, "/v1/...".
std::string_view endpoint_of(Api api);

// Error kUsage: `more` is no JSON object.
Result<void> check_request_options(const RequestOptions& options);

// The JSON of a streamed request that asks for its usage. seed: of its sampling. The options are such as
// check_request_options() accepts.
std::string request_body(const Job& job, const RequestOptions& options, uint32_t seed);

}  // namespace spate::load
