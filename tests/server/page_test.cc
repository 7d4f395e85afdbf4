// The page as it is sent: everything that it uses is there, and nothing is from elsewhere.
#include "server/page/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "server/server_fixture.h"

namespace spate::server {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::request_text;
using testing::Response;

class PageTest : public testing::ServerFixture {
 protected:
  PageTest() {
    options.assets = page_assets();
    options.http.api_keys = {"key"};
  }
};

// What stands between `before` and the next quote.
std::vector<std::string> quoted_after(std::string_view text, std::string_view before) {
  std::vector<std::string> found;
  for (size_t at = text.find(before); at != std::string_view::npos; at = text.find(before, at)) {
    at += before.size();
    found.emplace_back(text.substr(at, text.find('"', at) - at));
  }
  return found;
}

TEST_F(PageTest, Page_IsOpen_WithAPolicyThatLetsNothingElseIn) {
  start();
  const Response page = ask(request_text("/"));
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.header("content-type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.body, HasSubstr("<!doctype html>"));
  const std::string policy = page.header("content-security-policy");
  for (const char* part : {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
                           "require-trusted-types-for 'script'"})
    EXPECT_THAT(policy, HasSubstr(part));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_EQ(page.header("x-content-type-options"), "nosniff");
}

TEST_F(PageTest, WhatThePageUses_IsServedWithItsType) {
  start();
  std::set<std::string> used;
  for (const Asset& asset : options.assets) {
    // Paths are below the page's folder in what it holds, beside each other in modules.
    for (const char* attribute : {"src=\"page/", "href=\"page/", "from \"./"})
      for (const std::string& name : quoted_after(asset.bytes, attribute)) used.insert("/page/" + name);
  }
  ASSERT_THAT(used, Contains("/page/app.js"));
  for (const std::string& path : used) {
    const Response file = ask(request_text(path));
    EXPECT_EQ(file.status, 200) << path;
    const std::string type = path.ends_with(".js")    ? "text/javascript; charset=utf-8"
                             : path.ends_with(".css") ? "text/css; charset=utf-8"
                                                      : "image/png";
    EXPECT_EQ(file.header("content-type"), type) << path;
    EXPECT_NE(file.header("etag"), "") << path;
    EXPECT_EQ(file.header("cache-control"), "no-cache") << path;
  }
  EXPECT_EQ(used.size() + 1, options.assets.size()) << "an asset that nothing uses";
}

TEST_F(PageTest, Assets_NameNoOtherServer_AndHaveNoInlineScript) {
  for (const Asset& asset : options.assets) {
    if (asset.content_type == "image/png") {
      EXPECT_TRUE(asset.bytes.starts_with("\x89PNG")) << "bytes as they are in the file";
      continue;
    }
    const std::string text(asset.bytes);
    for (const char* mark :
         {"src=\"//", "src=\"http", "href=\"//", "href=\"http", "url(", "@import", "innerHTML", "outerHTML",
          "insertAdjacentHTML", "document.write", "eval(", "style=\"", "onclick=", "<script>"})
      EXPECT_THAT(text, Not(HasSubstr(mark))) << asset.path;
    // A comment may say where a specification is; nothing else has an address.
    for (size_t at = text.find("://"); at != std::string::npos; at = text.find("://", at + 1)) {
      const size_t line = text.rfind('\n', at) + 1;
      EXPECT_EQ(text.substr(line, 2), "//") << asset.path << ": " << text.substr(line, text.find('\n', at) - line);
    }
  }
}

TEST_F(PageTest, UnchangedAssets_AreNotSentAgain) {
  start();
  const std::string etag = ask(request_text("/page/app.js")).header("etag");
  const Response again = ask(request_text("/page/app.js", {}, "If-None-Match: " + etag + "\r\n"));
  EXPECT_EQ(again.status, 304);
  EXPECT_EQ(again.body, "");
}

}  // namespace
}  // namespace spate::server
