// The web page: a chat and a view of the load, for browsers.
#pragma once

#include <vector>

#include "server/asset.h"

namespace spate::server {

// index.html at "/", the files that it uses under "/page/". Their bytes are part of the program.
std::vector<Asset> page_assets();

}  // namespace spate::server
