// The process: its states, its end, what it says of itself.
#include "server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace spate::server {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::HttpClient;
using ::testing::Not;
using testing::request_text;
using testing::Response;

class ServerTest : public testing::ServerFixture {
 protected:
  // A stream of which the first token is there.
  void open_stream(HttpClient& client, int max_tokens) {
    client.send(completion(max_tokens, true));
    EXPECT_EQ(client.head().status, 200);
    EXPECT_THAT(client.chunk(), HasSubstr("\"a\""));
  }
  static std::string rest_of(HttpClient& client) {
    std::string rest;
    for (std::string chunk = client.chunk(); !chunk.empty(); chunk = client.chunk()) rest += chunk;
    return rest;
  }
};

TEST_F(ServerTest, Loading_ListensAndSaysSo) {
  start();
  const Response health = ask(request_text("/health"));
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.body, R"({"status":"loading"})");
  EXPECT_EQ(ask(request_text("/livez")).status, 200);
  const Response refused = ask(completion(1, false));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr(R"("error":{"message":"the model is being loaded)"));
  EXPECT_NE(refused.header("retry-after"), "");
  EXPECT_EQ(metric("spate_ready"), 0);
  serve();
  EXPECT_EQ(ask(request_text("/health")).status, 200);
  EXPECT_EQ(metric("spate_ready"), 1);
}

TEST_F(ServerTest, Loading_DrainedHasNothingToWaitFor) {
  start();
  server->drain();
  EXPECT_EQ(ask(request_text("/health")).body, R"({"status":"draining"})");
  EXPECT_EQ(ask(completion(1, false)).status, 503);
  EXPECT_TRUE(server->ends_before_serving());
  serve();
  EXPECT_FALSE(server->ends_before_serving());
  EXPECT_TRUE(server->wait().ok());
}

TEST_F(ServerTest, Ready_AnswersAndCounts) {
  start_and_serve();
  const Response answer = ask(completion(7, false));
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("aaaaaaa"));
  expect_soon("spate_generation_tokens_total", 7);
  expect_all_freed();
  EXPECT_EQ(metric("spate_prompt_tokens_total"), 5);
  EXPECT_EQ(metric("spate_ttft_seconds_count"), 1);
  EXPECT_EQ(metric("spate_inter_token_seconds_count"), 6);
  EXPECT_EQ(metric("spate_queue_seconds_count"), 1);
  EXPECT_GE(metric("spate_steps_total"), 7);
  EXPECT_EQ(metric(R"(spate_finished_total{reason="length"})"), 1);
  EXPECT_EQ(metric(R"(spate_http_requests_total{route="/v1/completions",status="200"})"), 1);
}

TEST_F(ServerTest, Errors_HaveTheShapeOfTheApi) {
  start_and_serve();
  const Response unknown = ask(request_text("/v1/nothing"));
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, HasSubstr(R"("type":"invalid_request_error","param":null,"code":"not_found")"));
}

TEST_F(ServerTest, Version_SaysWhatRuns) {
  start();
  EXPECT_EQ(ask(request_text("/version")).body, R"({"version":"1.2.3","commit":"abcdef"})");
}

TEST_F(ServerTest, Keys_AreNotAskedForWhereProbesLook) {
  options.http.api_keys = {"key"};
  options.assets = {{.path = "/", .content_type = "text/html", .bytes = "<p>hello"}};
  start();
  serve();
  for (const char* open : {"/", "/health", "/livez"}) EXPECT_EQ(ask(request_text(open)).status, 200) << open;
  for (const char* closed : {"/metrics", "/version", "/v1/models", "/openapi.json"}) {
    EXPECT_EQ(ask(request_text(closed)).status, 401) << closed;
    EXPECT_EQ(ask(request_text(closed, {}, "Authorization: Bearer key\r\n")).status, 200) << closed;
  }
}

TEST_F(ServerTest, Assets_AreAskedForOnce) {
  options.assets = {{.path = "/app.js", .content_type = "text/javascript", .bytes = "let x;"}};
  start();
  const Response first = ask(request_text("/app.js"));
  EXPECT_EQ(first.body, "let x;");
  EXPECT_EQ(first.header("content-type"), "text/javascript");
  const Response second = ask(request_text("/app.js", {}, "If-None-Match: " + first.header("etag") + "\r\n"));
  EXPECT_EQ(second.status, 304);
  EXPECT_EQ(ask(request_text("/app.js", {}, "If-None-Match: \"other\"\r\n")).status, 200);
}

TEST_F(ServerTest, ClientThatGoes_FreesItsPlace) {
  start_and_serve();
  executor->hold_from(20);
  HttpClient client(server->port());
  open_stream(client, 500);
  executor->wait_until_held();
  client.close();
  // The engine hears of it once the step in flight is over.
  expect_soon("spate_http_clients_gone_total", 1);
  executor->release();
  expect_soon(R"(spate_finished_total{reason="cancelled"})", 1);
  expect_all_freed();
}

TEST_F(ServerTest, Drain_LetsStreamsEnd_AndTakesNothingNew) {
  start_and_serve();
  executor->hold_from(5);
  HttpClient client(server->port());
  open_stream(client, 30);
  executor->wait_until_held();
  server->drain();
  EXPECT_EQ(ask(request_text("/health")).body, R"({"status":"draining"})");
  EXPECT_EQ(ask(request_text("/livez")).status, 200);
  EXPECT_EQ(ask(completion(1, false)).status, 503);
  executor->release();
  EXPECT_THAT(rest_of(client), HasSubstr("data: [DONE]"));
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, Drain_FailsWhatDoesNotEndInTime) {
  options.drain_time = milliseconds(50);
  start_and_serve();
  executor->hold_from(5);
  HttpClient streaming(server->port()), waiting(server->port());
  open_stream(streaming, 500);
  waiting.send(completion(500, false));
  step_until_running(2, 5);
  server->drain();
  const std::string rest = rest_of(streaming);
  EXPECT_THAT(rest, HasSubstr("data: {\"error\":"));
  EXPECT_THAT(rest, Not(HasSubstr("[DONE]")));
  EXPECT_EQ(waiting.response().status, 503);
  executor->release();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, Drain_WithADeviceThatHangs_EndsAllTheSame) {
  options.drain_time = options.stop_time = milliseconds(50);
  start_and_serve();
  executor->hold_from(5);
  HttpClient streaming(server->port());
  open_stream(streaming, 500);
  executor->wait_until_held();
  server->drain();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":"));
  const Result<void> result = ended.get();  // the device is still held
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_TRUE(server->engine_hangs());
  executor->release();  // a process would end without
}

TEST_F(ServerTest, Drain_WithNothingToDo_EndsAtOnce) {
  start_and_serve();
  server->drain();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, Watchdog_FailsRequestsOfAnEngineThatHangs) {
  options.watchdog_time = milliseconds(1000);
  start_and_serve();
  executor->hold_from(5);
  HttpClient streaming(server->port()), waiting(server->port());
  open_stream(streaming, 500);
  waiting.send(completion(500, false));
  step_until_running(2, 5);
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":{\"message\":\"there is work, but no step"));
  EXPECT_EQ(waiting.response().status, 500);
  const Result<void> result = ended.get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_TRUE(server->engine_hangs());
  executor->release();  // a process would end without
}

TEST_F(ServerTest, Watchdog_LeavesAnIdleEngineAlone) {
  options.watchdog_time = milliseconds(40);
  start_and_serve();
  // wait() looks every 5 ms: by the time that this many answers were given, it has looked after the limit.
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < milliseconds(120))
    EXPECT_EQ(ask(request_text("/health")).status, 200);
  server->drain();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, ExecutorFault_FailsWhatIsInFlightAndEnds) {
  fail_at = 400;
  hold_from = 5;
  start_and_serve();
  HttpClient streaming(server->port()), waiting(server->port());
  open_stream(streaming, 500);
  waiting.send(completion(500, false));
  step_until_running(2, 5);
  executor->release();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":{\"message\":\"the fake device fell off the bus"));
  EXPECT_THAT(waiting.response().status, 500);
  const Result<void> result = ended.get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_FALSE(server->engine_hangs());
}

TEST_F(ServerTest, RequestsUnderWay_EndWithTheServer) {
  start_and_serve();
  executor->hold_from(5);
  HttpClient streaming(server->port());
  open_stream(streaming, 500);
  executor->wait_until_held();
  server->drain();
  executor->release();
  streaming.close();
  EXPECT_TRUE(ended.get().ok());
  server.reset();
}

// A worker may have found the server ready, and come to its engine only after that was given up.
TEST(RequestTracker, WhatComesAfterAllHaveFailed_IsRefused) {
  ServerMetrics metrics;
  RequestTracker tracker(metrics);
  testing::HeldExecutor executor({.max_seqs = 2, .max_step_tokens = 64, .n_pages = 10});
  EngineThread engine(executor, nullptr, {.vocab_size = testing::kServedVocab, .context_tokens = 100});
  tracker.fail_all(Error::backend("the device hangs"));
  const Result<RequestId> id =
      tracker.submit(engine, Request{.prompt = {1}, .max_tokens = 1}, [](RequestId, const OutputDelta&) {});
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.error().message, "the device hangs");
}

TEST(MetricsPage, TextFormat) {
  MetricsPage page;
  page.gauge("a", "What a is.", 0.25);
  page.family("b_total", "counter", "What b is.");
  page.sample(12345678, {{"x", "q\"\\\n"}, {"y", "z"}});
  Histogram histogram({.5, 2});
  for (const double value : {0.1, 1.0, 1.5, 7.0}) histogram.add(value);
  page.histogram("h", "What h is.", histogram);
  EXPECT_EQ(page.take(),
            "# HELP a What a is.\n# TYPE a gauge\na 0.25\n"
            "# HELP b_total What b is.\n# TYPE b_total counter\nb_total{x=\"q\\\"\\\\\\n\",y=\"z\"} 12345678\n"
            "# HELP h What h is.\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"2\"} 3\n"
            "h_bucket{le=\"+Inf\"} 4\nh_sum 9.6\nh_count 4\n");
}

}  // namespace
}  // namespace spate::server
