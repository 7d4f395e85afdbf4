// spate load, as a program, against a server on the loopback.
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "app/subprocess.h"
#include "base/file.h"

#include "load/fake_server.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

FakeReply obey(const FakeRequest& request) {
  return fake_completion(json::parse(request.body).at("max_tokens"), 7, request.target.ends_with("chat/completions"));
}

Finished load(const FakeServer& server, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"load", server.url(), "--prompt", "5", "--output", "2"});
  return run_spate(arguments);
}

TEST(LoadCommand, Json_HasTheFieldsThatScriptsRelyOn) {
  const FakeServer server(obey);
  const Finished finished = load(server, {"--clients", "1,3", "--json"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.err, "");
  const json result = json::parse(finished.out);
  EXPECT_EQ(result.at("url"), server.url());
  EXPECT_EQ(result.at("api"), "completions");
  EXPECT_EQ(result.at("prompt"), "5");
  EXPECT_EQ(result.at("seed"), 1);
  ASSERT_EQ(result.at("levels").size(), 2u);
  for (const json& level : result.at("levels")) {
    const int clients = level.at("clients");
    EXPECT_EQ(level.at("arrivals"), "closed");
    EXPECT_EQ(level.at("requests"), 12 * clients);
    EXPECT_EQ(level.at("ok"), 12 * clients);
    EXPECT_EQ(level.at("failed"), 0);
    EXPECT_EQ(level.at("output_tokens"), 24 * clients);
    EXPECT_EQ(level.at("prompt_tokens"), 84 * clients);
    EXPECT_EQ(level.at("ttft_ms").at("n"), 12 * clients);
    EXPECT_EQ(level.at("gap_ms").at("n"), 12 * clients);
    EXPECT_NEAR(level.at("out_tok_s").get<double>(), 24 * clients / level.at("wall_s").get<double>(), 1e-3);
    EXPECT_GE(level.at("end_to_end_ms").at("p99"), level.at("ttft_ms").at("p50"));
  }
  EXPECT_EQ(server.requests().size(), 1 + 48u) << "one to warm up";
}

TEST(LoadCommand, Text_IsARowForEachLevelAndTheFailures) {
  std::atomic<int> n = 0;
  const FakeServer server([&](const FakeRequest& request) {
    return ++n == 3 ? FakeReply{.pieces = {fake_head(429), "{\"error\": {\"message\": \"slow\\u001b down\"}}"}}
                    : obey(request);
  });
  const Finished finished = load(server, {"--clients", "2"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.out,
              MatchesRegex(" +requests +failed[^\n]*\n2 clients +24 +1 [^\n]*\n  1 x http 429: slow  down\n"));
}

TEST(LoadCommand, OpenLoop_ATraceAndAChat) {
  const TemporaryFolder folder;
  const FakeServer server(obey);
  const Finished poisson = load(server, {"--rate", "500", "--requests", "20", "--api", "chat", "--json"});
  ASSERT_EQ(poisson.exit_code, 0) << poisson.err;
  const json level = json::parse(poisson.out).at("levels").at(0);
  EXPECT_EQ(level.at("rate"), 500);
  EXPECT_EQ(level.at("ok"), 20);

  std::ofstream(folder.path("trace.jsonl")) << "{\"timestamp\": 0, \"input_length\": 4, \"output_length\": 1}\n"
                                               "{\"timestamp\": 20, \"input_length\": 9, \"output_length\": 5}\n";
  const Finished trace = load(server, {"--trace", folder.path("trace.jsonl"), "--json"});
  ASSERT_EQ(trace.exit_code, 0) << trace.err;
  const json traced = json::parse(trace.out).at("levels").at(0);
  EXPECT_EQ(traced.at("arrivals"), "trace");
  EXPECT_EQ(traced.at("ok"), 2);
  EXPECT_EQ(traced.at("output_tokens"), 6);
  // With clients, the trace gives the lengths alone.
  const Finished clients = load(server, {"--trace", folder.path("trace.jsonl"), "--clients", "1", "--json"});
  EXPECT_EQ(json::parse(clients.out).at("levels").at(0).at("ok"), 2);
}

TEST(LoadCommand, Plot_ByLevelOrByPercentile) {
  const TemporaryFolder folder;
  const FakeServer server(obey);
  const std::string plot = folder.path("plot.svg");
  ASSERT_EQ(load(server, {"--clients", "1,2", "--plot", plot}).exit_code, 0);
  EXPECT_THAT(read_file(plot).value(), HasSubstr("tokens a second"));
  EXPECT_THAT(read_file(plot).value(), HasSubstr("99th percentile"));
  ASSERT_EQ(load(server, {"--clients", "2", "--plot", plot}).exit_code, 0);
  EXPECT_THAT(read_file(plot).value(), HasSubstr("Whole answers"));
  EXPECT_THAT(read_file(plot).value(), HasSubstr("2 clients"));
  EXPECT_THAT(read_file(plot).value(), HasSubstr("</svg>"));
}

TEST(LoadCommand, Key_IsSentAndNotShown) {
  const TemporaryFolder folder;
  std::ofstream(folder.path("key")) << "s3cret\n";
  const FakeServer server(obey);
  const Finished finished =
      load(server, {"--clients", "1", "--requests", "1", "--api-key-file", folder.path("key"), "--json"});
  ASSERT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(server.requests().at(0).headers.at("authorization"), "Bearer s3cret");
  EXPECT_THAT(finished.out + finished.err, Not(HasSubstr("s3cret")));
}

TEST(LoadCommand, WhatGoesWrong_IsOneLine) {
  const TemporaryFolder folder;
  const FakeServer server(obey);
  const FakeServer refuses([](const FakeRequest&) { return FakeReply{.pieces = {fake_head(401), "no key"}}; });
  std::ofstream(folder.path("empty")).flush();
  std::ofstream(folder.path("key")) << "a b";
  const struct {
    std::vector<std::string> arguments;
    int exit_code;
    std::string part;
  } cases[] = {
      {{"ftp://x"}, 2, "'ftp://x' is no address"},
      {{"http://127.0.0.1:1"}, 3, "a request before the load failed: connect: "},
      {{refuses.url()}, 3, "a request before the load failed: http 401: no key"},
      {{refuses.url(), "--warmup", "0", "--clients", "1", "--json"}, 3, "no request succeeded"},
      {{server.url(), "--clients", "0"}, 2, "'0'"},
      {{server.url(), "--clients", "1", "--rate", "2"}, 2, "excludes"},
      {{server.url(), "--rate", "-1"}, 2, "'-1'"},
      {{server.url(), "--prompt", "normal:5"}, 2, "'normal:5' is no distribution"},
      {{server.url(), "--prompt-as", "ids:0"}, 2, "'ids:0'"},
      {{server.url(), "--prompt-as", "ids:9", "--api", "chat"}, 2, "needs --api completions"},
      {{server.url(), "--extra", "[1]"}, 2, "'[1]' is no JSON object"},
      {{server.url(), "--trace", folder.path("empty")}, 2, "holds no request"},
      {{server.url(), "--trace", folder.path("none")}, 3, "No such file"},
      {{server.url(), "--api-key-file", folder.path("key")}, 2, "no header of a request may have"},
      {{server.url(), "--api-key-file", folder.path("empty")}, 2, "there is no key in it"},
      {{server.url(), "--plot", "x.png"}, 2, "does not end in .svg"},
      {{server.url(), "--plot", folder.path("none/x.svg")}, 3, "none/x.svg"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> arguments = {"load"};
    arguments.insert(arguments.end(), c.arguments.begin(), c.arguments.end());
    const Finished finished = run_spate(arguments);
    EXPECT_EQ(finished.exit_code, c.exit_code) << c.part << finished.err;
    EXPECT_THAT(finished.err, MatchesRegex("spate: [^\n]*\n")) << c.part;
    EXPECT_THAT(finished.err, HasSubstr(c.part));
  }
}

TEST(LoadCommand, Signal_EndsItAtOnce) {
  // Answers the request before the load, and no other.
  std::atomic<int> n = 0;
  const FakeServer server([&](const FakeRequest& request) {
    return n++ == 0 ? obey(request) : FakeReply{.pieces = {}, .stay_open = true};
  });
  SpateProcess process({"load", server.url(), "--clients", "2"});
  EXPECT_THAT(process.read_some(), HasSubstr("TTFT"));
  process.send_signal(SIGINT);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 8);
  EXPECT_EQ(finished.err, "spate: stopped before the load had ended\n");
}

TEST(LoadCommand, ReaderThatLeaves_EndsItQuietly) {
  const FakeServer server(obey);
  SpateProcess process({"load", server.url(), "--clients", "1,2,3,4,5,6,7,8", "--prompt", "5", "--output", "2"});
  process.close_stdout();
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
}

}  // namespace
}  // namespace spate::testing
