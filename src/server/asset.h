// Files that the program carries and serves as they are: the web page.
#pragma once

#include <string_view>
#include <vector>

#include "server/http/handler.h"

namespace spate::server {

struct Asset {
  std::string_view path;  // "/", "/app.js"
  std::string_view content_type;
  std::string_view bytes;
};

// A row each, open to all, since they are the same for everybody. Browsers keep them and ask whether they have changed
// (ETag); pages may use nothing from elsewhere. The assets' memory outlives the rows.
std::vector<http::Route> asset_routes(const std::vector<Asset>& assets);

}  // namespace spate::server
