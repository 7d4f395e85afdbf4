// Requests and answers over real sockets: what is well and what is refused. limits_test.cc has times, bounds and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdexcept>
#include <thread>

#include "server/http/host_check.h"
#include "server/http/http_fixture.h"

namespace spate::http {
namespace {

using testing::HttpClient;
using testing::request_text;
using testing::Response;
using Outcome = RequestRecord::Outcome;
using ::testing::HasSubstr;

class HttpExchange : public testing::HttpFixture {};

TEST_F(HttpExchange, Get_IsAnsweredWithItsHeaders) {
  start();
  const Response response = ask(request_text("/hello?x=1"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "hello");
  EXPECT_EQ(response.header("content-type"), "text/plain");
  EXPECT_THAT(response.header("date"), ::testing::MatchesRegex("..., .. ... .... ..:..:.. GMT"));
  EXPECT_EQ(response.header("connection"), "");
}

TEST_F(HttpExchange, Head_HasTheHeadersOfGetAndNoBody) {
  start();
  HttpClient client = connect();
  client.send("HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n" + request_text("/hello"));
  const Response head = client.response(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("content-length"), "5");
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(HttpExchange, HandlerSeesTheRequest) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park?a=%20b", R"({"x":1})", "X-Mine: yes\r\nAuthorization: Bearer secret\r\n"));
  const ExchangePtr exchange = parked.take();
  const HttpRequest& request = exchange->request();
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/park");
  ASSERT_NE(request.query_value("a"), nullptr);
  EXPECT_EQ(*request.query_value("a"), " b");
  ASSERT_NE(request.header("x-MINE"), nullptr);
  EXPECT_EQ(*request.header("x-MINE"), "yes");
  EXPECT_EQ(request.header("Authorization"), nullptr) << "keys stay in the transport";
  EXPECT_EQ(request.body, R"({"x":1})");
  EXPECT_EQ(request.peer_address, "127.0.0.1");
  exchange->release_body();
  EXPECT_TRUE(request.body.empty());
  exchange->respond(200, "text/plain", "done");
  EXPECT_EQ(client.response().body, "done");
}

TEST_F(HttpExchange, KeepAlive_ServesRequestAfterRequest) {
  start();
  HttpClient client = connect();
  for (int i = 0; i < 3; ++i) {
    client.send(request_text("/echo", fmt::format("[{}]", i)));
    EXPECT_EQ(client.response().body, fmt::format("[{}]", i));
  }
  client.send(request_text("/hello", {}, "Connection: close\r\n"));
  EXPECT_EQ(client.response().header("connection"), "close");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpExchange, Http10_ClosesUnlessAskedNotTo) {
  start();
  HttpClient client = connect();
  client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(client.response().header("connection"), "keep-alive");
  client.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpExchange, Pipelined_AnswersComeInOrder) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park") + request_text("/hello") + request_text("/echo", "[1]") + request_text("/park"));
  const ExchangePtr first = parked.take();
  first->respond(200, "text/plain", "first");
  EXPECT_EQ(client.response().body, "first");
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_EQ(client.response().body, "[1]");
  parked.take()->respond(200, "text/plain", "last");
  EXPECT_EQ(client.response().body, "last");
}

TEST_F(HttpExchange, Pipelined_BeyondTheBound_WaitsAndIsServed) {
  options.max_header_bytes = 512;
  start();
  HttpClient client = connect();
  std::string ahead;
  for (int i = 0; i < 200; ++i) ahead += request_text("/hello");
  client.send(request_text("/park") + ahead);
  parked.take()->respond(200, "text/plain", "first");
  EXPECT_EQ(client.response().body, "first");
  for (int i = 0; i < 200; ++i) ASSERT_EQ(client.response().body, "hello");
}

// The buffer that a body came through holds the next request too, and goes only once it is empty.
TEST_F(HttpExchange, Pipelined_BehindALargeBody_IsServed) {
  start();
  const std::string body = "[\"" + std::string(40'000, 'x') + "\"]";
  for (int i = 0; i < 20; ++i) {
    HttpClient client = connect();
    client.send(request_text("/echo", body) + request_text("/hello") + request_text("/echo", "[1]"));
    EXPECT_TRUE(client.response().body == body);
    ASSERT_EQ(client.response().body, "hello");
    EXPECT_EQ(client.response().body, "[1]");
  }
}

TEST_F(HttpExchange, Pipelined_ManySmallRequestsAtOnce_AreAllServed) {
  options.max_header_bytes = 64 << 10;
  start();
  HttpClient client = connect();
  constexpr int kMany = 1000;
  std::string ahead;
  for (int i = 0; i < kMany; ++i) ahead += request_text("/hello");
  ASSERT_GT(ahead.size(), size_t{32'000});
  client.send(request_text("/park") + ahead);
  parked.take()->respond(200, "text/plain", "first");
  EXPECT_EQ(client.response().body, "first");
  for (int i = 0; i < kMany; ++i) ASSERT_EQ(client.response().body, "hello");
}

TEST_F(HttpExchange, BodyInChunks_AndBlankLinesBefore) {
  start();
  EXPECT_EQ(ask("\r\n\r\nPOST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n")
                .body,
            "[1,2]");
}

TEST_F(HttpExchange, LargeBody_ComesBackWhole) {
  start();
  const std::string body = "[\"" + std::string(6 << 20, 'x') + "\"]";
  HttpClient client = connect();
  std::thread sender([&] { client.send(request_text("/echo", body)); });
  const Response response = client.response();
  sender.join();
  EXPECT_TRUE(response.body == body) << response.body.size() << " bytes";
}

TEST_F(HttpExchange, ExpectContinue_IsAnsweredBeforeTheBody) {
  start();
  HttpClient client = connect();
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.head().status, 100);
  client.send("[7]");
  EXPECT_EQ(client.response().body, "[7]");
}

TEST_F(HttpExchange, ExpectContinue_RefusedBeforeTheBody) {
  options.max_body_bytes = 100;
  start();
  const Response response =
      ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 101\r\n"
          "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(response.header("connection"), "close");
}

TEST_F(HttpExchange, RequestId_IsTakenOrMade_AndComesBack) {
  start();
  EXPECT_EQ(ask(request_text("/hello", {}, "X-Request-Id: mine-1.2_3\r\n")).header("x-request-id"), "mine-1.2_3");
  EXPECT_EQ(finished.take().id, "mine-1.2_3");
  const Response made = ask(request_text("/hello", {}, "X-Request-Id: no spaces\r\n"));
  EXPECT_THAT(made.header("x-request-id"), ::testing::MatchesRegex("[0-9a-f]{24}"));
  EXPECT_EQ(ask(request_text("/none", {}, "X-Request-Id: x\r\n")).header("x-request-id"), "x");
}

TEST_F(HttpExchange, UnknownPathsAndMethods) {
  start();
  const Response unknown = ask(request_text("/v1/nothing"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(code_of(unknown), "not_found");
  EXPECT_EQ(unknown.header("content-type"), "application/json");
  const Response method = ask("DELETE /park HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.header("allow"), "GET, HEAD, POST");
  EXPECT_EQ(ask("OPTIONS /park HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
  EXPECT_EQ(ask("GET /a%00 HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 400);
}

TEST_F(HttpExchange, Refused_LeavesTheConnectionUsable_WhereNothingIsUnread) {
  start();
  HttpClient client = connect();
  client.send(request_text("/none") + request_text("/hello"));
  EXPECT_EQ(client.response().status, 404);
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(HttpExchange, RefusedWithABody_Closes_SoThatTheBodyIsNoRequest) {
  start();
  HttpClient client = connect();
  client.send("POST /none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 44\r\n\r\n" + request_text("/hello"));
  const Response response = client.response();
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.header("connection"), "close");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpExchange, BodyWhereNoneIsTaken_IsNotReadAsARequest) {
  start();
  HttpClient client = connect();
  client.send("GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 44\r\n\r\n" + request_text("/hello"));
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpExchange, BadHttp_IsAnswered400AndClosed) {
  start();
  HttpClient client = connect();
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  const Response response = client.response();
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(code_of(response), "bad_request");
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(ask("\x16\x03\x01 no http\r\n\r\n").status, 400);
}

TEST_F(HttpExchange, ContentTypes_OtherThanJson_Are415) {
  start();
  const auto status_with = [this](std::string_view headers) {
    return ask(fmt::format("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{}\r\n[]", headers)).status;
  };
  EXPECT_EQ(status_with("Content-Type: application/json; charset=utf-8\r\n"), 200);
  EXPECT_EQ(status_with("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(status_with(""), 415);
  EXPECT_EQ(status_with("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415);
}

TEST_F(HttpExchange, ApiKeys_AreWantedOnEveryRouteButOpenOnes) {
  options.api_keys = {"alpha", "beta"};
  start();
  EXPECT_EQ(ask(request_text("/hello")).status, 200);
  const Response none = ask(request_text("/echo", "[]"));
  EXPECT_EQ(none.status, 401);
  EXPECT_EQ(code_of(none), "invalid_api_key");
  EXPECT_EQ(none.header("www-authenticate"), "Bearer");
  EXPECT_EQ(ask(request_text("/echo", "[]", "Authorization: Bearer gamma\r\n")).status, 401);
  HttpClient client = connect();
  client.send(request_text("/park", {}, "Authorization: Bearer beta\r\n"));
  const ExchangePtr exchange = parked.take();
  EXPECT_EQ(exchange->request().key_index, 1);
  exchange->respond(204, "", "");
  EXPECT_EQ(client.response().status, 204);
}

// As a browser sends it for a page of another site whose name has come to mean this machine.
TEST_F(HttpExchange, HostsOfOthers_AreRefusedOnALoopbackAddressWithoutKeys) {
  const auto called = [this](const std::string& name) {
    return ask("GET /hello HTTP/1.1\r\nHost: " + name + "\r\n\r\n");
  };
  options.allowed_hosts = {"proxy.example"};
  start();
  for (const char* own :
       {"localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080", "Proxy.example", "proxy.example:1"})
    EXPECT_EQ(called(own).status, 200) << own;
  for (const char* other :
       {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", ""}) {
    const Response refused = called(other);
    EXPECT_EQ(refused.status, 403) << other;
    EXPECT_EQ(code_of(refused), "host_not_allowed");
  }
  EXPECT_EQ(ask("OPTIONS /hello HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
                "Access-Control-Request-Method: POST\r\n\r\n")
                .status,
            403);
  EXPECT_EQ(ask("GET /hello HTTP/1.0\r\n\r\n").status, 200) << "no browser is so old";
}

TEST(HostCheck, IsOffWhereTheNameSaysNothing) {
  using Names = std::vector<std::string>;
  const auto accepts = [](const std::string& address, const Names& keys, const Names& allowed) {
    HttpOptions options;
    options.host = address;
    options.api_keys = keys;
    options.allowed_hosts = allowed;
    return HostCheck(options).accepts("other.example");
  };
  EXPECT_FALSE(accepts("127.0.0.1", {}, {}));
  EXPECT_FALSE(accepts("::1", {}, {}));
  EXPECT_TRUE(accepts("0.0.0.0", {}, {})) << "it has names that nobody told it";
  EXPECT_TRUE(accepts("127.0.0.1", {"key"}, {})) << "a page of another site has no key";
  EXPECT_TRUE(accepts("127.0.0.1", {}, {"*"}));
  EXPECT_FALSE(accepts("0.0.0.0", {}, {"mine.example"})) << "names were given";
}

TEST_F(HttpExchange, Cors_IsOffUnlessAsked) {
  start();
  const Response plain = ask(request_text("/hello", {}, "Origin: https://page.example\r\n"));
  EXPECT_EQ(plain.header("access-control-allow-origin"), "");
  EXPECT_EQ(ask("OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: https://page.example\r\n"
                "Access-Control-Request-Method: POST\r\n\r\n")
                .status,
            405);
}

TEST_F(HttpExchange, Cors_AnswersPreflightsWithoutAKey) {
  options.cors_origins = {"https://page.example"};
  options.api_keys = {"alpha"};
  start();
  const Response preflight =
      ask("OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: https://page.example\r\nAccess-Control-Request-Method: "
          "POST\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("access-control-allow-origin"), "https://page.example");
  EXPECT_THAT(preflight.header("access-control-allow-headers"), HasSubstr("Authorization"));
  EXPECT_THAT(preflight.header("access-control-allow-methods"), HasSubstr("POST"));
  // Also an error can be read by the page.
  EXPECT_EQ(ask(request_text("/echo", "[]", "Origin: https://page.example\r\n")).header("access-control-allow-origin"),
            "https://page.example");
  EXPECT_EQ(ask(request_text("/hello", {}, "Origin: https://other.example\r\n")).header("access-control-allow-origin"),
            "");
}

TEST_F(HttpExchange, Events_AreChunked_AndLeaveTheConnectionUsable) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  const ExchangePtr exchange = parked.take();
  exchange->begin_events({{"X-Extra", "1\r\nInjected: no"}});
  exchange->comment("note");
  exchange->event(R"({"x":1})");
  const Response head = client.head();
  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.header("content-type"), HasSubstr("text/event-stream"));
  EXPECT_EQ(head.header("cache-control"), "no-cache");
  EXPECT_EQ(head.header("x-accel-buffering"), "no");
  EXPECT_EQ(head.header("x-extra"), "1  Injected: no");
  EXPECT_EQ(head.header("injected"), "");
  std::string events;
  while (!events.ends_with("data: {\"x\":1}\n\n")) events += client.chunk();
  EXPECT_EQ(events, ": note\n\ndata: {\"x\":1}\n\n");
  EXPECT_TRUE(exchange->is_open());
  exchange->event("two\r\nlines\rand\nmore");
  exchange->end_events();
  EXPECT_FALSE(exchange->is_open());
  exchange->event("of no effect");
  exchange->respond(500, "text/plain", "of no effect");
  events.clear();
  for (std::string chunk = client.chunk(); !chunk.empty(); chunk = client.chunk()) events += chunk;
  EXPECT_EQ(events, "data: two\ndata: lines\ndata: and\ndata: more\n\n");
  client.send(request_text("/hello"));
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(HttpExchange, EventsOverHttp10_EndWithTheConnection) {
  start();
  HttpClient client = connect();
  client.send("GET /park HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const ExchangePtr exchange = parked.take();
  exchange->begin_events();
  exchange->event("x");
  exchange->end_events();
  const Response response = client.response();
  EXPECT_EQ(response.header("transfer-encoding"), "");
  EXPECT_EQ(response.body, "data: x\n\n");
}

TEST_F(HttpExchange, DroppedUnanswered_IsA500) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  parked.take();
  const Response response = client.response();
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(code_of(response), "internal_error");
}

TEST_F(HttpExchange, DroppedAmidEvents_IsCutOff) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  ExchangePtr exchange = parked.take();
  exchange->begin_events();
  exchange->event("x");
  exchange.reset();
  EXPECT_THAT(client.read_to_end(), ::testing::Not(HasSubstr("0\r\n\r\n"))) << "a cut stream must not look complete";
  EXPECT_EQ(finished.take().outcome, Outcome::kAborted);
}

TEST_F(HttpExchange, HandlerThatThrows_IsA500_AndHarmsNobodyElse) {
  for (const RunOn where : {RunOn::kIo, RunOn::kWorker})
    routes.push_back({.method = "GET",
                      .path = where == RunOn::kIo ? "/throw/io" : "/throw/worker",
                      .handler = [](const ExchangePtr&) { throw std::runtime_error("secret"); },
                      .run_on = where});
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  const ExchangePtr other = parked.take();
  EXPECT_EQ(ask(request_text("/throw/io")).status, 500);
  EXPECT_EQ(ask(request_text("/throw/worker")).status, 500);
  other->respond(200, "text/plain", "fine");
  EXPECT_EQ(client.response().body, "fine");
}

TEST_F(HttpExchange, Record_HasRouteStatusAndWhatWasAnnotated) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park?key=value", "[]"));
  const ExchangePtr exchange = parked.take();
  exchange->annotate("model", "a b");
  exchange->annotate("prompt_tokens", int64_t{12});
  exchange->annotate("seconds", 0.25);
  exchange->respond(422, "text/plain", "no");
  EXPECT_EQ(client.response().status, 422);
  const testing::Finished record = finished.take();
  EXPECT_EQ(record.method, "POST");
  EXPECT_EQ(record.route, "/park");
  EXPECT_EQ(record.status, 422);
  EXPECT_EQ(record.outcome, Outcome::kComplete);
  EXPECT_EQ(record.fields, " model='a b' prompt_tokens=12 seconds=0.25");
}

TEST_F(HttpExchange, PortInUse_IsAnErrorThatNamesIt) {
  start();
  options.port = server->port();
  const auto second = HttpServer::start(options, routes);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kIo);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(server->port())));
}

}  // namespace
}  // namespace spate::http
