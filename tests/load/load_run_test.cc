// Whole levels against a server on the loopback.
#include "load/load_run.h"

#include <algorithm>
#include <atomic>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <set>

#include "load/fake_server.h"
#include "load/load_summary.h"

namespace spate::load {
namespace {

using nlohmann::json;
using spate::testing::fake_completion;
using spate::testing::fake_head;
using spate::testing::FakeReply;
using spate::testing::FakeRequest;
using spate::testing::FakeServer;
using ::testing::HasSubstr;

const auto kGoOn = [](const LevelProgress&) { return true; };

int wanted_tokens(const FakeRequest& request) {
  return json::parse(request.body).at("max_tokens");
}

FakeReply obey(const FakeRequest& request) {
  return fake_completion(wanted_tokens(request), 11, request.target.ends_with("chat/completions"));
}

// A level with a workload of short prompts and 3 tokens an answer.
LevelSummary run(const FakeServer& server, const LevelOptions& options, WorkloadOptions workload = {}) {
  const Url url = Url::parse(server.url()).value();
  const auto client = HttpClient::create(url, {}).value();
  workload.prompt = Lengths::fixed(20);
  workload.output = Lengths::fixed(3);
  const Result<LevelResult> result =
      run_level(*client, url.target(endpoint_of(options.request.api)), Workload(workload), options, kGoOn);
  EXPECT_TRUE(result.ok()) << result.error().message;
  return summarise(*result);
}

TEST(LoadRun, ClosedLoop_KeepsEachClientBusyWithOneRequest) {
  // Replies come only once four requests wait: with fewer in flight this would not end.
  const FakeServer server([](const FakeRequest& request) {
    FakeReply reply = obey(request);
    reply.wait_for = 4;
    return reply;
  });
  const LevelSummary summary = run(server, {.clients = 4, .n_requests = 12});
  EXPECT_EQ(summary.n_ok, 12);
  EXPECT_EQ(summary.most_in_flight, 4);
  EXPECT_EQ(summary.output_tokens, 36);
  EXPECT_EQ(summary.prompt_tokens, 12 * 11);
  EXPECT_EQ(summary.gap.n, 12 * 2);
  EXPECT_EQ(summary.per_token.n, 12);
  EXPECT_GE(summary.ttft.p50, 0);
  EXPECT_GE(summary.end_to_end.p50, summary.ttft.p50);
  EXPECT_GE(summary.wall_s, summary.end_to_end.max);
  const std::vector<FakeRequest> requests = server.requests();
  ASSERT_EQ(requests.size(), 12u);
  std::set<std::string> prompts;
  for (const FakeRequest& request : requests) {
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.target, "/v1/completions");
    EXPECT_EQ(request.headers.at("content-type"), "application/json");
    EXPECT_EQ(request.headers.at("host"), fmt::format("127.0.0.1:{}", server.port()));
    EXPECT_EQ(request.headers.count("authorization"), 0u);
    prompts.insert(json::parse(request.body).at("prompt").get<std::string>());
  }
  EXPECT_EQ(prompts.size(), 12u);
}

TEST(LoadRun, ManyConnectionsAtOnce) {
  constexpr int kClients = 400;
  const FakeServer server([](const FakeRequest& request) {
    FakeReply reply = obey(request);
    reply.wait_for = kClients;
    return reply;
  });
  const LevelSummary summary = run(server, {.clients = kClients, .n_requests = kClients});
  EXPECT_EQ(summary.n_ok, kClients);
  EXPECT_EQ(summary.most_in_flight, kClients);
}

TEST(LoadRun, Chat_WithAKey) {
  const FakeServer server(obey);
  const LevelSummary summary =
      run(server, {.n_requests = 2, .request = {.api = Api::kChat}, .headers = {{"Authorization", "Bearer secret"}}});
  EXPECT_EQ(summary.n_ok, 2);
  EXPECT_EQ(summary.gap.n, 4);
  for (const FakeRequest& request : server.requests()) {
    EXPECT_EQ(request.target, "/v1/chat/completions");
    EXPECT_EQ(request.headers.at("authorization"), "Bearer secret");
  }
}

TEST(LoadRun, OpenLoop_SendsWhetherOrNotThereAreAnswers) {
  // Nobody is answered before all twenty have come.
  const FakeServer server([](const FakeRequest& request) {
    FakeReply reply = obey(request);
    reply.wait_for = 20;
    return reply;
  });
  const LevelSummary summary = run(server, {.arrivals = Arrivals::kPoisson, .rate = 1000, .n_requests = 20});
  EXPECT_EQ(summary.n_ok, 20);
  EXPECT_EQ(summary.most_in_flight, 20);
}

TEST(LoadRun, OpenLoop_EndsAfterItsSeconds) {
  const FakeServer server(obey);
  const LevelOptions options{.arrivals = Arrivals::kPoisson, .rate = 2000, .seconds = 0.1};
  const LevelSummary summary = run(server, options);
  // As many as the seed's exponential gaps put before 0.1 s, however slow this machine is.
  Random random(WorkloadOptions().seed, (uint64_t{1} << 62) + static_cast<uint64_t>(options.index));
  int64_t n_due = -1;
  for (double due_s = 0; due_s < options.seconds; ++n_due) due_s += random.exponential() / options.rate;
  EXPECT_EQ(summary.n_ok, n_due);
  EXPECT_NEAR(static_cast<double>(n_due), 200, 60);
}

TEST(LoadRun, OpenLoopWithoutAnArrivalInItsTime_Ends) {
  const FakeServer server(obey);
  EXPECT_EQ(run(server, {.arrivals = Arrivals::kPoisson, .rate = 1e-6, .seconds = 0.001}).n_requests, 0);
}

TEST(LoadRun, Trace_GivesTimesAndLengths) {
  const FakeServer server(obey);
  const WorkloadOptions workload{.trace = {{.at_s = 0, .prompt_tokens = 5, .output_tokens = 1},
                                           {.at_s = 0, .prompt_tokens = 6, .output_tokens = 2},
                                           {.at_s = 0.05, .prompt_tokens = 7, .output_tokens = 4}}};
  const LevelSummary summary = run(server, {.arrivals = Arrivals::kTrace}, workload);
  EXPECT_EQ(summary.n_ok, 3);
  EXPECT_EQ(summary.output_tokens, 7);
  EXPECT_GE(summary.wall_s, 0.05);
  std::multiset<size_t> lengths;
  for (const FakeRequest& request : server.requests())
    lengths.insert(json::parse(request.body).at("prompt").get_ref<const std::string&>().size());
  EXPECT_EQ(lengths, std::multiset<size_t>({5, 6, 7}));
}

TEST(LoadRun, ChunkedAndCutAnyhow_IsTheSame) {
  const FakeServer server([](const FakeRequest&) {
    std::string events;
    const FakeReply whole = fake_completion(3, 11);
    for (size_t i = 1; i < whole.pieces.size(); ++i) events += whole.pieces[i];
    FakeReply reply{.pieces = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}};
    for (size_t at = 0; at < events.size(); at += 7) {
      const std::string part = events.substr(at, 7);
      for (const std::string& piece : {fmt::format("{:x}\r", part.size()), "\n" + part, std::string("\r\n")})
        reply.pieces.push_back(piece);
    }
    reply.pieces.emplace_back("0\r\n\r\n");
    return reply;
  });
  const LevelSummary summary = run(server, {.n_requests = 3});
  EXPECT_EQ(summary.n_ok, 3);
  EXPECT_EQ(summary.output_tokens, 9);
  EXPECT_EQ(summary.gap.n, 6);
}

TEST(LoadRun, WithoutUsage_EventsAreCounted) {
  const FakeServer server([](const FakeRequest&) {
    FakeReply reply = fake_completion(5, 11);
    reply.pieces.erase(reply.pieces.end() - 2);
    return reply;
  });
  const LevelSummary summary = run(server, {.n_requests = 1});
  EXPECT_EQ(summary.output_tokens, 5);
  EXPECT_EQ(summary.prompt_tokens, 0);
}

TEST(LoadRun, WhatFails_IsCountedByItsKind) {
  const std::string token = "data: {\"choices\": [{\"text\": \"a\"}]}\n\n", done = "data: [DONE]\n\n";
  const struct {
    const char *kind, *detail;
    FakeReply reply;
  } cases[] = {
      {"http 429",
       "slow down",
       {.pieces = {fake_head(429, "application/json"), R"({"error": {"message": "slow down"}})"}}},
      {"http 503", "", {.pieces = {"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"}}},
      {"http 500", "xxx", {.pieces = {fake_head(500), std::string(100'000, 'x')}}},
      {"closed early", "without [DONE]", {.pieces = {fake_head(200), token}}},
      {"closed early", "", {.pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", token}}},
      {"closed early", "", {.pieces = {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"}}},
      {"closed early", "", {.pieces = {}}},
      {"closed early", "", {.pieces = {"this is no HTTP\r\n\r\n"}}},
      {"error event",
       "lost",
       {.pieces = {fake_head(200), token, "data: {\"error\": {\"message\": \"lost\"}}\n\n", done}}},
      {"bad event", "no JSON object", {.pieces = {fake_head(200), token, "data: nonsense\n\n", done}}},
      {"bad event", "16 MiB", {.pieces = {fake_head(200), "data: " + std::string(17 << 20, 'x')}}},
      {"no token", "no text", {.pieces = {fake_head(200), done}}},
      {"timeout", "", {.pieces = {fake_head(200), token}, .stay_open = true}},
      {"timeout", "", {.pieces = {}, .stay_open = true}},
  };
  for (const auto& c : cases) {
    const FakeServer server([&](const FakeRequest&) { return c.reply; });
    const bool waits = c.reply.stay_open;
    const LevelSummary summary = run(server, {.n_requests = 2, .timeout_s = waits ? 0.05 : 60});
    EXPECT_EQ(summary.n_ok, 0) << c.kind;
    ASSERT_EQ(summary.failures.size(), 1u) << c.kind;
    EXPECT_EQ(summary.failures.begin()->first, c.kind);
    EXPECT_EQ(summary.failures.begin()->second.n, 2);
    EXPECT_THAT(summary.failures.begin()->second.example, HasSubstr(c.detail));
  }
}

TEST(LoadRun, FailuresAmongSuccesses_DoNotEndIt) {
  std::atomic<int> n = 0;
  const FakeServer server(
      [&](const FakeRequest& request) { return n++ % 3 == 0 ? FakeReply{.pieces = {fake_head(500)}} : obey(request); });
  const LevelSummary summary = run(server, {.clients = 2, .n_requests = 9});
  EXPECT_EQ(summary.n_ok, 6);
  EXPECT_EQ(summary.failures.at("http 500").n, 3);
  EXPECT_EQ(summary.output_tokens, 18) << "of the requests that did not fail";
}

TEST(LoadRun, NobodyThere_IsAFailureToConnect) {
  uint16_t port = 0;
  {
    const FakeServer gone(obey);
    port = gone.port();
  }
  const Url url = Url::parse(fmt::format("http://127.0.0.1:{}", port)).value();
  const auto client = HttpClient::create(url, {}).value();
  const Result<LevelResult> result =
      run_level(*client, "/v1/completions", Workload({}), {.clients = 2, .n_requests = 3}, kGoOn);
  ASSERT_TRUE(result.ok());
  const LevelSummary summary = summarise(*result);
  EXPECT_EQ(summary.failures.at("connect").n, 3);
  EXPECT_THAT(summary.failures.at("connect").example, HasSubstr("refused"));
}

TEST(LoadRun, Progress_EndsItAndTheClientCanGoOn) {
  const FakeServer silent([](const FakeRequest&) { return FakeReply{.pieces = {}, .stay_open = true}; });
  const Url url = Url::parse(silent.url()).value();
  const auto client = HttpClient::create(url, {}).value();
  int n_calls = 0;
  const Result<LevelResult> ended =
      run_level(*client, "/", Workload({}), {.clients = 3, .n_requests = 3}, [&](const LevelProgress& now) {
        EXPECT_EQ(now.n_in_flight, 3);
        EXPECT_EQ(now.n_ended, 0);
        return ++n_calls < 2;
      });
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().code, ErrorCode::kInterrupted);
  const Result<LevelResult> next =
      run_level(*client, "/", Workload({}), {.clients = 1, .n_requests = 1, .timeout_s = 0.05}, kGoOn);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->requests.size(), 1u);
}

TEST(HttpClient, NameWithoutAnAddress_IsAnError) {
  const auto client = HttpClient::create(Url::parse("http://no-such-host.invalid").value(), {});
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, ErrorCode::kIo);
  EXPECT_THAT(client.error().message, HasSubstr("no-such-host.invalid: the name has no address"));
}

TEST(HttpClient, CaFileThatHoldsNone_IsAnErrorThatNamesIt) {
  const Url url = Url::parse("https://127.0.0.1").value();
  const auto empty = HttpClient::create(url, {.ca_file = "/dev/null"});
  ASSERT_FALSE(empty.ok());
  EXPECT_EQ(empty.error().code, ErrorCode::kBadFile);
  EXPECT_THAT(empty.error().message, HasSubstr("/dev/null: no certificates in PEM"));
  const auto none = HttpClient::create(url, {.ca_file = "/nonexistent.pem"});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::kIo);
  EXPECT_THAT(none.error().message, HasSubstr("/nonexistent.pem: No such file"));
}

}  // namespace
}  // namespace spate::load
