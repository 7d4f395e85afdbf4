// The rows of the OpenAI-compatible endpoints.
#pragma once

#include <memory>
#include <vector>

#include "server/api/json_body.h"
#include "server/api/serving.h"
#include "server/http/handler.h"

namespace spate::api {

struct ApiOptions {
  bool strict_model =
      false;  // a request for another model than the served one is a 404; else it is answered all the same
  JsonLimits json = {};
};

// serving outlives every exchange of the routes.
std::vector<http::Route> api_routes(Serving& serving, const ApiOptions& options);

}  // namespace spate::api
