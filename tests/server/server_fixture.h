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

#include "backend/step_progress.h"
#include "chat/chat_testing.h"
#include "engine/fake_executor.h"
#include "server/http/http_client.h"
#include "server/server.h"

namespace spate::testing {

inline constexpr int kServedVocab = 258;  // a token a byte, "ab" and "abc"

// Always draws "a"; holds its steps from a given one on until it is released.
class HeldExecutor final : public FakeExecutor, public StepProgress {
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

  // With gets_on, whoever looks sees something new, each time.
  uint64_t progress() const override {
    const std::lock_guard lock(mutex_);
    if (gets_on_) ++n_looks_;
    changed_.notify_all();
    return n_looks_;
  }
  void set_gets_on(bool gets_on) {
    const std::lock_guard lock(mutex_);
    gets_on_ = gets_on;
  }
  void wait_until_seen_to_get_on(uint64_t n_looks) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [&] { return n_looks_ >= n_looks; }));
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
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<StepId> hold_from_;
  bool is_held_ = false;
  bool gets_on_ = false;
  mutable uint64_t n_looks_ = 0;
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
    executor->set_gets_on(gets_on);
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
  // Of the executor, before serve():
  std::optional<StepId> fail_at, hold_from;
  bool gets_on = false;
  std::unique_ptr<server::Server> server;
  HeldExecutor* executor = nullptr;
  std::future<Result<void>> ended;  // what wait() says
};

}  // namespace spate::testing
