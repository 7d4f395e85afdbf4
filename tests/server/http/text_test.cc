#include "server/http/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "server/http/api_keys.h"
#include "server/http/cors.h"
#include "server/http/route_table.h"

namespace spate::http {
namespace {

TEST(HttpText, PercentDecode_UndoesEscapes_RefusesBrokenOnes) {
  EXPECT_EQ(percent_decode("a%20b%2Fc", false), "a b/c");
  EXPECT_EQ(percent_decode("%C3%A9+", false), "\xC3\xA9+");
  EXPECT_EQ(percent_decode("a+b", true), "a b");
  EXPECT_EQ(percent_decode("", false), "");
  for (const char* broken : {"%", "%2", "%zz", "a%00b", "%FF", "\xC3"})
    EXPECT_EQ(percent_decode(broken, false), std::nullopt) << broken;
}

TEST(HttpText, ParseTarget_OriginAndAbsoluteForm) {
  const auto origin = parse_target("/a%20b?x=1&y=%26+2&z&&=v");
  ASSERT_TRUE(origin);
  EXPECT_EQ(origin->path, "/a b");
  ASSERT_EQ(origin->query.size(), 4u);
  EXPECT_EQ(origin->query[1].value, "& 2");
  EXPECT_EQ(origin->query[2].name, "z");
  EXPECT_EQ(origin->query[3].name, "");
  EXPECT_EQ(parse_target("http://host:80/p?q=1")->path, "/p");
  EXPECT_EQ(parse_target("HTTPS://host?q=1")->path, "/");
  EXPECT_EQ(parse_target("HTTPS://host?q=1")->query.at(0).value, "1");
  EXPECT_EQ(parse_target("http://host")->path, "/");
  for (const char* bad : {"", "*", "a", "host:80", "/a%", "/a?b=%f"}) EXPECT_FALSE(parse_target(bad)) << bad;
}

TEST(HttpText, HostOf_LeavesThePortAndALastDotOut) {
  for (const char* same : {"a.example", "a.example:", "a.example:80", "a.example.", "a.example.:80"})
    EXPECT_EQ(host_of(same), "a.example") << same;
  for (const char* v6 : {"[::1]", "[::1]:8080", "::1"}) EXPECT_EQ(host_of(v6), "::1") << v6;
  for (const char* bad : {"", ":80", "a:b", "a:8o", "[::1]80", "[::1]:x"}) EXPECT_EQ(host_of(bad), "") << bad;
}

TEST(HttpText, Loopback_IsThisMachineAlone) {
  for (const char* yes :
       {"localhost", "LocalHost", "chat.localhost", "127.0.0.1", "127.9.8.7", "::1", "0:0:0:0:0:0:0:1"})
    EXPECT_TRUE(is_loopback(yes)) << yes;
  for (const char* no : {"", "0.0.0.0", "::", "notlocalhost", "localhost.example", "127.0.0.1.example", "127.example",
                         "127.1", "128.0.0.1", "10.0.0.1"})
    EXPECT_FALSE(is_loopback(no)) << no;
}

TEST(HttpText, JsonTypes) {
  for (const char* yes : {"application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\"",
                          "application/problem+json", "application/json ; x=y"})
    EXPECT_TRUE(is_json_type(yes)) << yes;
  for (const char* no : {"", "text/plain", "application/jsonp", "application/json; charset=latin1", "+json",
                         "multipart/form-data; boundary=application/json"})
    EXPECT_FALSE(is_json_type(no)) << no;
}

TEST(HttpText, RequestIds_AreWordsOfBoundedLength) {
  EXPECT_TRUE(is_request_id("a-Z_0.9"));
  EXPECT_TRUE(is_request_id(std::string(128, 'x')));
  for (const std::string& no :
       {std::string(), std::string(129, 'x'), std::string("a b"), std::string("a\"b"), std::string("\xC3\xA9")})
    EXPECT_FALSE(is_request_id(no)) << no;
  std::set<std::string> made;
  for (int i = 0; i < 1000; ++i) made.insert(make_request_id());
  EXPECT_EQ(made.size(), 1000u);
  EXPECT_TRUE(is_request_id(*made.begin()));
}

TEST(HttpText, LogValues_CannotBreakALine) {
  EXPECT_EQ(log_value("/v1/models:x"), "/v1/models:x");
  EXPECT_EQ(log_value("a b\n"), "'a b\\x0a'");
  EXPECT_EQ(log_value(""), "''");
}

TEST(ApiKeys, Find_WantsTheWholeKeyAndTheScheme) {
  const std::vector<std::string> given = {"first", "second key"};
  const ApiKeys keys(given);
  EXPECT_EQ(keys.find("Bearer first"), 0);
  EXPECT_EQ(keys.find("bearer  second key"), 1);
  for (const char* no :
       {"", "Bearer", "Bearer ", "Bearerfirst", "first", "Basic first", "Bearer firs", "Bearer first ", "Bearer First"})
    EXPECT_EQ(keys.find(no), -1) << no;
}

TEST(RouteTable, Find_TakesTheFirstRowThatFits) {
  const Handler handler = [](const std::shared_ptr<Exchange>&) {};
  const RouteTable table({{.method = "GET", .path = "/v1/models", .handler = handler},
                          {.method = "GET", .path = "/v1/models/*", .handler = handler},
                          {.method = "POST", .path = "/v1/models/*", .handler = handler},
                          {.method = "*", .path = "/any", .handler = handler}});
  EXPECT_EQ(table.find("GET", "/v1/models").route->path, "/v1/models");
  EXPECT_EQ(table.find("HEAD", "/v1/models").route->method, "GET");
  EXPECT_EQ(table.find("GET", "/v1/models/a/b").path_rest, "a/b");
  EXPECT_EQ(table.find("DELETE", "/v1/models/a").route, nullptr);
  EXPECT_EQ(table.find("DELETE", "/v1/models/a").allowed, "GET, HEAD, POST");
  EXPECT_EQ(table.find("DELETE", "/v1/model").allowed, "");
  EXPECT_EQ(table.find("BREW", "/any").route->path, "/any");
}

TEST(Cors, AnswerHeaders_OnlyForOriginsThatAreAllowed) {
  EXPECT_TRUE(Cors({}).answer_headers("https://a.example").empty());
  EXPECT_TRUE(Cors({"https://a.example"}).answer_headers("https://b.example").empty());
  EXPECT_TRUE(Cors({"*"}).answer_headers("").empty());
  EXPECT_EQ(Cors({"*"}).answer_headers("https://b.example").at(0).value, "*");
  const Headers listed = Cors({"https://a.example", "https://b.example"}).answer_headers("https://b.example");
  EXPECT_EQ(listed.at(0).value, "https://b.example");
  EXPECT_EQ(listed.back().name, "Vary");
}

}  // namespace
}  // namespace spate::http
