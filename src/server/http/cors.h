// Which pages of other origins a browser may let call (WHATWG Fetch, 3.2, "CORS protocol").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/handler.h"

namespace spate::http {

class Cors {
 public:
  // As HttpOptions::cors_origins.
  explicit Cors(std::vector<std::string> origins);

  // What an answer to a page of that origin carries; nothing where it may not read it.
  Headers answer_headers(std::string_view origin) const;
  // What the answer to a preflight carries besides, where answer_headers() gives something.
  static Headers preflight_headers();

 private:
  std::vector<std::string> origins_;
  bool any_;
};

}  // namespace spate::http
