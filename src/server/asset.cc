#include "server/asset.h"

#include <cstdint>
#include <fmt/core.h>
#include <memory>
#include <string>

namespace spate::server {
namespace {

// FNV-1a, 64 bits: tells versions of one file apart.
std::string etag_of(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3ull;
  return fmt::format("\"{:016x}\"", hash);
}

// require-trusted-types-for: browsers that know it refuse innerHTML and its like, so a model's text cannot become
// markup.
constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

void answer(http::Exchange& exchange, const Asset& asset, const std::string& etag) {
  http::Headers headers = {{"ETag", etag},
                           {"Cache-Control", "no-cache"},
                           {"Content-Security-Policy", kContentSecurityPolicy},
                           {"X-Content-Type-Options", "nosniff"},
                           {"Referrer-Policy", "no-referrer"}};
  const std::string* known = exchange.request().header("If-None-Match");
  if (known != nullptr && known->find(etag) != std::string::npos)
    exchange.respond(304, "", "", std::move(headers));
  else
    exchange.respond(200, asset.content_type, std::string(asset.bytes), std::move(headers));
}

}  // namespace

std::vector<http::Route> asset_routes(const std::vector<Asset>& assets) {
  std::vector<http::Route> rows;
  for (const Asset& asset : assets)
    rows.push_back({.method = "GET",
                    .path = asset.path,
                    .handler = [asset, etag = etag_of(asset.bytes)](
                                   const std::shared_ptr<http::Exchange>& exchange) { answer(*exchange, asset, etag); },
                    .access = http::Access::kOpen});
  return rows;
}

}  // namespace spate::server
