// The rows of the OpenAI-compatible endpoints.
#pragma once

#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "server/api/json_body.h"
#include "server/api/serving.h"
#include "server/http/handler.h"

namespace spate::api {

struct ApiOptions {
  // A request for another model than the served one is a 404; else it is answered all the same.
  bool strict_model = false;
  JsonLimits json = {};
  // The highest `priority` that a request may ask for: of clients without a key, and by HttpRequest::key_index; keys
  // beyond the list are as clients without one.
  int max_priority = 0;
  std::vector<int> max_priority_by_key = {};
  // When a stream that waits begins without a token, so that pings keep its connection.
  std::chrono::milliseconds stream_patience{15'000};
};

// serving outlives every exchange of the routes. Bodies of POST are read and prompts made on workers.
std::vector<http::Route> api_routes(Serving& serving, const ApiOptions& options);

// The OpenAPI description of these endpoints and of the server's own, as GET /openapi.json gives it.
std::string_view openapi_json();

}  // namespace spate::api
