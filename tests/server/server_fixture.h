// A whole server over sockets, around a device that tests can hold and break.
#pragma once

#include <condition_variable>
#include <future>
#include <gtest/gtest.h>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "chat/chat_testing.h"
#include "engine/fake_executor.h"
#include "server/http/http_client.h"
#include "server/server.h"

namespace spate::testing {

inline constexpr int kServedVocab = 258;  // a token a byte, "ab" and "abc"

// Always draws "a"; holds its steps from a given one on until it is released.
class HeldExecutor final : public FakeExecutor {
 public:
  explicit HeldExecutor(const ExecutorLimits& limits) : FakeExecutor(limits, kServedVocab) {
    draw = [](std::span<const int32_t>, const SamplingParams&) { return int32_t{'a'}; };
  }

  Result<StepOutput> wait(StepId id) override {
    {
      std::unique_lock lock(mutex_);
      const auto passes = [&] { return !hold_from_ || id < *hold_from_; };
      is_held_ = !passes();
      changed_.notify_all();
      changed_.wait(lock, passes);
      is_held_ = false;
    }
    return FakeExecutor::wait(id);
  }

  void hold_from(StepId step) {
    const std::lock_guard lock(mutex_);
    hold_from_ = step;
    changed_.notify_all();
  }
  void release() {
    const std::lock_guard lock(mutex_);
    hold_from_.reset();
    changed_.notify_all();
  }
  void wait_until_held() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [this] { return is_held_; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<StepId> hold_from_;
  bool is_held_ = false;
};

class ServerFixture : public ::testing::Test {
 protected:
  ServerFixture() {
    options.http.port = 0;
    options.version = "1.2.3";
    options.commit = "abcdef";
    options.watchdog_time = std::chrono::seconds(20);
  }
  ~ServerFixture() override {
    if (server == nullptr) return;  // and its executor with it
    if (executor != nullptr) executor->release();
    if (!ended.valid()) return;
    server->drain();
    ended.wait();
  }

  void start() {
    auto started = server::Server::start(options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server = std::move(*started);
  }
  // Of a model of 600 tokens of context, 8 sequences at a time.
  void serve() {
    auto made = std::make_unique<HeldExecutor>(ExecutorLimits{.max_seqs = 8, .max_step_tokens = 64, .n_pages = 100});
    executor = made.get();
    executor->fail_at = fail_at;
    if (hold_from) executor->hold_from(*hold_from);
    api::ServedModelOptions model{.names = {"small"}, .context_tokens = 600, .vocab_size = kServedVocab, .d_model = 4};
    server->serve({.executor = std::move(made),
                   .model = std::make_shared<const api::ServedModel>(tokenizer_of(byte_level_file()),
                                                                     template_of(kChatMl), std::move(model)),
                   .engine = {.vocab_size = kServedVocab, .context_tokens = 600},
                   .queue = {}});
  }
  void start_and_serve() {
    start();
    serve();
    ended = std::async(std::launch::async, [this] { return server->wait(); });
  }

  Response ask(std::string_view request) {
    HttpClient client(server->port());
    client.send(request);
    return client.response();
  }
  static std::string completion(int max_tokens, bool stream, std::string_view prompt = "hello") {
    return request_text("/v1/completions",
                        fmt::format(R"({{"prompt":"{}","max_tokens":{},"stream":{}}})", prompt, max_tokens, stream));
  }
  // One sample of /metrics; -1 where there is none.
  double metric(const std::string& name) {
    const std::string page = ask(request_text("/metrics")).body;
    const size_t at = page.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(page.substr(at + name.size() + 2));
  }
  // The engine tells what it did once a step is over, which its answers may come before.
  void expect_soon(const std::string& name, double value) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    double last = metric(name);
    while (last != value && std::chrono::steady_clock::now() < until) last = metric(name);
    EXPECT_EQ(last, value) << name;
  }
  // Of an executor that holds its steps from `held_at` on: lets one after the other go, until that many answers run.
  void step_until_running(int n, StepId held_at) {
    executor->wait_until_held();
    while (metric("spate_num_requests_running") < n) {
      ASSERT_LT(held_at, 300u);
      executor->hold_from(++held_at);
    }
    executor->wait_until_held();
  }
  void expect_all_freed() {
    expect_soon("spate_num_requests_running", 0);
    expect_soon("spate_num_requests_waiting", 0);
    expect_soon("spate_kv_cache_usage_ratio", 0);
    expect_soon(R"(spate_kv_pages{state="used"})", 0);
  }

  server::ServerOptions options;
  std::optional<StepId> fail_at, hold_from;  // of the executor, before serve()
  std::unique_ptr<server::Server> server;
  HeldExecutor* executor = nullptr;
  std::future<Result<void>> ended;  // what wait() says
};

}  // namespace spate::testing
