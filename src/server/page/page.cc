#include "server/page/page.h"

#include <string>

#include "base/check.h"
#include "server/page/page_files.h"

namespace spate::server {
namespace {

struct ContentType {
  std::string_view suffix;
  std::string_view content_type;
};
constexpr ContentType kContentTypes[] = {{".html", "text/html; charset=utf-8"},
                                         {".css", "text/css; charset=utf-8"},
                                         {".js", "text/javascript; charset=utf-8"},
                                         {".png", "image/png"}};

std::string_view content_type_of(std::string_view name) {
  for (const ContentType& known : kContentTypes)
    if (name.ends_with(known.suffix)) return known.content_type;
  SPATE_CHECK(false, "{} has no content type", name);
}

}  // namespace

std::vector<Asset> page_assets() {
  std::vector<Asset> assets;
  for (const PageFile& file : page_files())
    assets.push_back({.path = file.name == "index.html" ? "/" : "/page/" + std::string(file.name),
                      .content_type = content_type_of(file.name),
                      .bytes = file.bytes});
  return assets;
}

}  // namespace spate::server
