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
  // A server whose device is held, and a stream that has its first token.
  HttpClient start_held(int max_tokens = 500, StepId held_from = 5) {
    hold_from = held_from;
    start_and_serve();
    HttpClient client(server->port());
    open_stream(client, max_tokens);
    executor->wait_until_held();
    return client;
  }
  // The same, and beside the stream an answer that waits to be whole.
  struct TwoClients {
    HttpClient streaming, waiting;
  };
  TwoClients start_held_with_two() {
    HttpClient streaming = start_held();
    HttpClient waiting(server->port());
    waiting.send(completion(500, false));
    step_until_running(2, *hold_from);
    return {std::move(streaming), std::move(waiting)};
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
  HttpClient client = start_held(500, 20);
  client.close();
  // The engine hears of it once the step in flight is over.
  expect_soon("spate_http_clients_gone_total", 1);
  executor->release();
  expect_soon(R"(spate_finished_total{reason="cancelled"})", 1);
  expect_all_freed();
}

TEST_F(ServerTest, Drain_LetsStreamsEnd_AndTakesNothingNew) {
  HttpClient client = start_held(30);
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
  auto [streaming, waiting] = start_held_with_two();
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
  HttpClient streaming = start_held();
  server->drain();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":"));
  const Result<void> result = ended.get();  // the device is still held
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_TRUE(server->step_runs_on());
  executor->release();  // a process would end without
}

TEST_F(ServerTest, Drain_WithNothingToDo_EndsAtOnce) {
  start_and_serve();
  server->drain();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, Watchdog_FailsRequestsOfAnEngineThatHangs) {
  options.watchdog_time = milliseconds(1000);
  auto [streaming, waiting] = start_held_with_two();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":{\"message\":\"there is work, but no step"));
  EXPECT_EQ(waiting.response().status, 500);
  const Result<void> result = ended.get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_TRUE(server->step_runs_on());
  executor->release();  // a process would end without
}

TEST_F(ServerTest, Watchdog_LeavesAStepThatGetsOnAlone) {
  options.watchdog_time = milliseconds(80);  // looked at every 10 ms
  gets_on = true;
  HttpClient streaming = start_held(20);
  executor->wait_until_seen_to_get_on(40);
  EXPECT_EQ(ask(request_text("/health")).status, 200);
  executor->release();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: [DONE]"));
  server->drain();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(ServerTest, Drain_LeavesALongStepBehind_ThatNobodyNeeds) {
  options.drain_time = options.stop_time = milliseconds(100);
  gets_on = true;
  HttpClient streaming = start_held();
  server->drain();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":"));
  EXPECT_TRUE(ended.get().ok());
  EXPECT_TRUE(server->step_runs_on());
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
  auto [streaming, waiting] = start_held_with_two();
  executor->release();
  EXPECT_THAT(rest_of(streaming), HasSubstr("data: {\"error\":{\"message\":\"the fake device fell off the bus"));
  EXPECT_THAT(waiting.response().status, 500);
  const Result<void> result = ended.get();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kBackend);
  EXPECT_FALSE(server->step_runs_on());
}

TEST_F(ServerTest, RequestsUnderWay_EndWithTheServer) {
  HttpClient streaming = start_held();
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
      tracker.submit(engine, Request{.prompt = {1}, .max_tokens = 1}, {}, [](RequestId, const OutputDelta&) {});
  ASSERT_FALSE(id.ok());
  EXPECT_EQ(id.error().message, "the device hangs");
}

// As one does that makes the JSON of a long list of scores.
TEST(RequestTracker, SinkThatTakesLong_HoldsUpNeitherStepsNorOtherRequests) {
  testing::HeldExecutor executor({.max_seqs = 2, .max_step_tokens = 64, .n_pages = 10});
  EngineThread engine(executor, nullptr, {.vocab_size = testing::kServedVocab, .context_tokens = 100});
  ServerMetrics metrics;
  RequestTracker tracker(metrics);
  const Request request{.prompt = {1}, .max_tokens = 20};
  std::promise<void> release, slow_ended, other_ended;
  int n_slow_tokens = 0;
  const auto slow = [&, released = release.get_future().share()](RequestId, const OutputDelta& delta) {
    released.wait();
    n_slow_tokens += static_cast<int>(delta.tokens.size());
    if (delta.finish) slow_ended.set_value();
  };
  const auto other = [&](RequestId, const OutputDelta& delta) {
    if (delta.finish) other_ended.set_value();
  };
  ASSERT_TRUE(tracker.submit(engine, request, EngineClock::now(), slow).ok());
  ASSERT_TRUE(tracker.submit(engine, request, EngineClock::now(), other).ok());
  other_ended.get_future().wait();
  while (engine.stats().n_finished[static_cast<size_t>(FinishReason::kLength)] < 2) std::this_thread::yield();
  EXPECT_EQ(n_slow_tokens, 0) << "its steps are over, and it has not been told of them";
  release.set_value();
  slow_ended.get_future().wait();
  EXPECT_EQ(n_slow_tokens, 20) << "all arrives, in order";
  engine.stop();  // lets go of the requests, which the tracker outlives
}

TEST(RequestTracker, TimeToTheFirstToken_CountsFromWhenTheClientBeganToAsk) {
  testing::HeldExecutor executor({.max_seqs = 2, .max_step_tokens = 64, .n_pages = 10});
  EngineThread engine(executor, nullptr, {.vocab_size = testing::kServedVocab, .context_tokens = 100});
  ServerMetrics metrics;
  RequestTracker tracker(metrics);
  std::promise<void> ended;
  const auto sink = [&ended](RequestId, const OutputDelta& delta) {
    if (delta.finish) ended.set_value();
  };
  const EngineTime hours_ago = EngineClock::now() - std::chrono::hours(2);
  ASSERT_TRUE(tracker.submit(engine, {.prompt = {1}, .max_tokens = 1}, hours_ago, sink).ok());
  ended.get_future().wait();
  engine.stop();
  MetricsPage page;
  metrics.write(page);
  EXPECT_THAT(page.take(), HasSubstr("\nspate_ttft_seconds_sum 72"));  // 7,200 and little more
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
