// Files that the program carries and serves as they are: the web page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/handler.h"

namespace spate::server {

struct Asset {
  std::string path;  // "/", "/app.js"
  std::string_view content_type;
  std::string_view bytes;
};

// A row each, open to all, since they are the same for everybody. Browsers keep them and ask whether they have changed
// (ETag). Pages may use nothing from elsewhere, run no script but a file of this server's, and make no markup of text.
// What the assets' views point to outlives the rows.
std::vector<http::Route> asset_routes(const std::vector<Asset>& assets);

}  // namespace spate::server
