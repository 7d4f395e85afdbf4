// `spate serve` as a process: its line, its signals, its exit codes. What it answers is tested in tests/server.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "app/serve_options.h"
#include "app/serve_signals.h"
#include "app/subprocess.h"
#include "base/file.h"
#include "server/http/http_client.h"

#include "support/test_data.h"

namespace spate::app {
namespace {

using ::testing::ElementsAre;
using testing::Finished;
using ::testing::HasSubstr;
using testing::HttpClient;
using testing::request_text;
using testing::run_spate;
using testing::SpateProcess;

// Of the line that says where it serves; 0 where that is another line.
uint16_t port_of(const std::string& line) {
  constexpr std::string_view kBefore = "http://127.0.0.1:";
  const size_t at = line.find(kBefore);
  return at == std::string::npos ? uint16_t{0} : static_cast<uint16_t>(std::atoi(line.c_str() + at + kBefore.size()));
}

// The bundled model, on a free port.
class Serving {
 public:
  Serving()
      : process({"serve", "--port", "0", "--device", "cpu", "--max-seqs", "4", "--ctx", "1024", "--drain-seconds",
                 "1000"}) {
    std::string line;
    while (!line.ends_with('\n')) {
      const std::string more = process.read_some();
      if (more.empty()) break;
      line += more;
    }
    port = port_of(line);
    EXPECT_NE(port, 0) << line << process.error_so_far();
  }

  // A stream that has begun.
  HttpClient stream(int max_tokens) {
    HttpClient client(port);
    client.send(request_text(
        "/v1/completions",
        fmt::format(R"({{"prompt":"The river","max_tokens":{},"ignore_eos":true,"stream":true}})", max_tokens)));
    EXPECT_EQ(client.head().status, 200);
    EXPECT_THAT(client.chunk(), HasSubstr("data: {"));
    return client;
  }
  std::string health() {
    HttpClient client(port);
    client.send(request_text("/health"));
    return client.response().body;
  }

  SpateProcess process;
  uint16_t port = 0;
};

TEST(ServeCommand, Sigterm_LetsStreamsEndAndExitsWith0) {
  Serving serving;
  EXPECT_EQ(serving.health(), R"({"status":"ok"})");
  HttpClient client = serving.stream(40);
  serving.process.send_signal(SIGTERM);
  std::string rest;
  for (std::string chunk = client.chunk(); !chunk.empty(); chunk = client.chunk()) rest += chunk;
  EXPECT_THAT(rest, HasSubstr("data: [DONE]"));
  const Finished finished = serving.process.finish();
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(finished.err, "");
}

TEST(ServeCommand, SecondSigterm_EndsAtOnce) {
  Serving serving;
  const HttpClient client = serving.stream(1000);
  serving.process.send_signal(SIGTERM);
  while (serving.health() == R"({"status":"ok"})") {
  }
  serving.process.send_signal(SIGTERM);
  EXPECT_EQ(serving.process.finish().signal, SIGTERM);
}

TEST(ServeSignals, SignalThatWasIgnored_StaysIgnored) {
  const auto serve_as_under_nohup = [] {
    std::signal(SIGHUP, SIG_IGN);
    std::promise<void> asked_to_end;
    const ServeSignals signals([&asked_to_end] {
      asked_to_end.set_value();
      return true;
    });
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);  // had the one before been taken, this would be the second, which ends the process
    asked_to_end.get_future().wait();
    kill(getpid(), SIGHUP);
  };
  EXPECT_EXIT((serve_as_under_nohup(), std::_Exit(0)), ::testing::ExitedWithCode(0), "");
}

TEST(ServeCommand, WhatCannotBeServed_IsAnErrorWithItsCode) {
  EXPECT_EQ(run_spate({"serve", "--port", "0", "/nonexistent.gguf"}).exit_code, 3);
  EXPECT_EQ(run_spate({"serve", "--port", "70000"}).exit_code, 2);
  EXPECT_EQ(run_spate({"serve", "--port", "0", "--tls-cert", "/nonexistent.pem"}).exit_code, 2);
  EXPECT_EQ(run_spate({"serve", "--port", "0", "--api-key", ""}).exit_code, 2);
  EXPECT_EQ(run_spate({"serve", "--port", "0", "--api-key-file", "/nonexistent"}).exit_code, 3);
  const Finished nowhere = run_spate({"serve", "--host", "192.0.2.1"});
  EXPECT_EQ(nowhere.exit_code, 3);
  EXPECT_THAT(nowhere.err, HasSubstr("192.0.2.1"));
  EXPECT_EQ(run_spate({"serve", "--ping-time", "nan"}).exit_code, 2);
}

TEST(ServeCommand, OriginsAndHostsThatNoRequestCanHave_AreRefused) {
  for (const char* origin : {"https://example.org/", "example.org", "https://", "://a", "https://a b"}) {
    const Finished finished = run_spate({"serve", "--cors-origin", origin, "/nonexistent.gguf", "--port", "0"});
    EXPECT_EQ(finished.exit_code, 2) << origin;
    EXPECT_THAT(finished.err, HasSubstr(fmt::format("--cors-origin: '{}' is no origin", origin)));
  }
  for (const char* host : {"https://example.org", "example.org/", "a:b", "a b"}) {
    const Finished finished = run_spate({"serve", "--allowed-host", host, "/nonexistent.gguf", "--port", "0"});
    EXPECT_EQ(finished.exit_code, 2) << host;
    EXPECT_THAT(finished.err, HasSubstr(fmt::format("--allowed-host: '{}' is no name of a host", host)));
  }
  const Finished good = run_spate({"serve", "--cors-origin", "*", "--cors-origin", "http://localhost:3000",
                                   "--cors-origin", "null", "--allowed-host", "*", "--allowed-host", "example.org:443",
                                   "--allowed-host", "[2001:db8::1]", "/nonexistent.gguf", "--port", "0"});
  EXPECT_EQ(good.exit_code, 3) << good.err;  // got as far as the model
}

TEST(ServeCommand, ContextThatTheKvCacheCannotHold_IsWarnedOf) {
  SpateProcess process({"serve", "--port", "0", "--device", "cpu", "--ctx", "512", "--kv-tokens", "128"});
  EXPECT_THAT(process.read_some(), HasSubstr("context 128"));
  process.send_signal(SIGTERM);
  const Finished finished = process.finish();
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.err, HasSubstr("--ctx 512 is more than the KV cache holds: a request may have 128 tokens"));
}

TEST(DefaultCpuPages, FillAQuarterOfTheMemory) {
  CpuPoolWish wish{.page_bytes = 1 << 20,
                   .weight_bytes = 200 << 20,
                   .memory_bytes = 400 << 20,
                   .context = 1000,
                   .context_asked = false,
                   .max_seqs = 64};
  EXPECT_EQ(default_cpu_pages(wish), 100);
  wish.max_seqs = 2;
  EXPECT_EQ(default_cpu_pages(wish), 64) << "two sequences of 1000 tokens need no more";
  wish.context = 200 * kPageTokens;
  EXPECT_EQ(default_cpu_pages(wish), 200) << "what one may have fits beside the weights";
  wish.context = 131072;
  EXPECT_EQ(default_cpu_pages(wish), 100) << "the model was trained on more than fits";
  wish.context_asked = true;
  EXPECT_EQ(default_cpu_pages(wish), 4096) << "what was asked for is not cut";
  wish = {.page_bytes = 1 << 20,
          .weight_bytes = 2 << 20,
          .memory_bytes = 1 << 20,
          .context = 1000,
          .context_asked = false,
          .max_seqs = 64};
  EXPECT_EQ(default_cpu_pages(wish), 1);
}

// The line that says where it serves; without it, whoever waits for it would wait for ever.
TEST(ServeCommand, AnnouncementThatCannotBeWritten_IsMadeOnStderr) {
  const testing::TemporaryFolder folder;
  const std::string command = fmt::format(
      "sh -c 'echo $$ > {0}/pid; exec timeout 60 \"{1}\" serve --port 0 --device cpu 2>&1 >/dev/full' | "
      "{{ read -r line; echo \"$line\" > {0}/line; kill $(cat {0}/pid); }}",
      folder.path(""), SPATE_EXECUTABLE);
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(read_file(folder.path("line")).value(),
              ::testing::MatchesRegex("spate: warning: standard output: No space left on device; serving at "
                                      "http://127.0.0.1:[0-9]+ all the same\n"));
}

TEST(ServeCommand, KeyOfAnOption_WinsOverThatOfTheEnvironment) {
  setenv("SPATE_API_KEY", "of-the-environment", 1);
  SpateProcess process({"serve", "--port", "0", "--device", "cpu", "--api-key", "of-the-option"});
  unsetenv("SPATE_API_KEY");
  HttpClient client(port_of(process.read_some()));
  client.send(request_text("/v1/models", {}, "Authorization: Bearer of-the-option\r\n"));
  EXPECT_EQ(client.response().status, 200);
  client.send(request_text("/v1/models", {}, "Authorization: Bearer of-the-environment\r\n"));
  EXPECT_EQ(client.response().status, 401);
}

class KeyFile : public ::testing::Test {
 protected:
  Result<void> collect(const std::string& text) {
    std::string path = (std::filesystem::temp_directory_path() / "spate-keys-XXXXXX").string();
    const int file = mkstemp(path.data());
    EXPECT_GE(file, 0);
    close(file);
    std::ofstream(path) << text;
    options.api_key_file = path;
    Result<void> result = collect_api_keys(options);
    std::filesystem::remove(path);
    return result;
  }
  ServeOptions options;
};

TEST_F(KeyFile, LinesAreKeys_WithTheirPriorities) {
  options.server.api.max_priority = 1;
  options.api_keys = {"last"};
  ASSERT_TRUE(collect("# ours\nalpha\n\n  beta 7 # of the night shift\r\ngamma\t-3").ok());
  EXPECT_THAT(options.server.http.api_keys, ElementsAre("alpha", "beta", "gamma", "last"));
  EXPECT_THAT(options.server.api.max_priority_by_key, ElementsAre(1, 7, -3, 1));
}

TEST_F(KeyFile, HashWithinAKey_IsPartOfIt) {
  ASSERT_TRUE(collect("al#pha # ours\nbeta# 3\n#gamma").ok());
  EXPECT_THAT(options.server.http.api_keys, ElementsAre("al#pha", "beta#"));
  EXPECT_THAT(options.server.api.max_priority_by_key, ElementsAre(0, 3));
}

TEST_F(KeyFile, WithoutAKey_IsRefused) {
  const Result<void> result = collect("# nothing yet\n");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kUsage);
}

TEST_F(KeyFile, BadLines_AreNamedAndNotQuoted) {
  for (const char* text : {"alpha\nbeta secret", "alpha\nbeta 101", "alpha\nb\xC3\xA9ta"}) {
    options = {};
    const Result<void> result = collect(text);
    ASSERT_FALSE(result.ok()) << text;
    EXPECT_THAT(result.error().message, HasSubstr("line 2"));
    EXPECT_THAT(result.error().message, ::testing::Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace spate::app
