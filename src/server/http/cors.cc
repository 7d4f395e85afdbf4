#include "server/http/cors.h"

#include <algorithm>
#include <utility>

#include "server/http/text.h"

namespace spate::http {

Cors::Cors(std::vector<std::string> origins)
    : origins_(std::move(origins)), any_(std::find(origins_.begin(), origins_.end(), "*") != origins_.end()) {}

Headers Cors::answer_headers(std::string_view origin) const {
  const bool known = std::any_of(origins_.begin(), origins_.end(),
                                 [&](const std::string& each) { return equal_ignoring_case(each, origin); });
  if (origin.empty() || (!any_ && !known)) return {};
  Headers headers = {{"Access-Control-Allow-Origin", any_ ? "*" : std::string(origin)},
                     {"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"}};
  if (!any_) headers.push_back({"Vary", "Origin"});
  return headers;
}

Headers Cors::preflight_headers() {
  return {{"Access-Control-Allow-Methods", "GET, HEAD, POST"},
          // "*" would not cover Authorization.
          {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id, *"},
          {"Access-Control-Max-Age", "600"}};
}

}  // namespace spate::http
