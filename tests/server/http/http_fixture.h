// A server with a few routes, on a free port.
#pragma once

#include <condition_variable>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "server/http/handler.h"
#include "server/http/http_client.h"
#include "server/http/http_server.h"

namespace spate::testing {

// What one thread puts in and another waits for.
template <typename T>
class Mailbox {
 public:
  void put(T value) {
    const std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  // Fails the test, and gives a T(), after 20 seconds.
  T take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [this] { return !values_.empty(); })) {
      ADD_FAILURE() << "nothing came";
      return T();
    }
    T value = std::move(values_.front());
    values_.erase(values_.begin());
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<T> values_;
};

struct Finished {
  std::string id, method, route, fields;
  int status = 0;
  http::RequestRecord::Outcome outcome = {};
};

class HttpFixture : public ::testing::Test {
 protected:
  using ExchangePtr = std::shared_ptr<http::Exchange>;

  HttpFixture() {
    options.port = 0;
    options.error_body = [](const http::TransportError& error) {
      return fmt::format(R"({{"error":{{"code":"{}"}}}})", error.code);
    };
    options.on_finished = [this](const http::RequestRecord& record) {
      finished.put({.id = std::string(record.id),
                    .method = std::string(record.method),
                    .route = std::string(record.route),
                    .fields = std::string(record.fields),
                    .status = record.status,
                    .outcome = record.outcome});
    };
    const auto park = [this](ExchangePtr exchange) { parked.put(std::move(exchange)); };
    routes = {
        {.method = "GET",
         .path = "/hello",
         .handler = [](const ExchangePtr& exchange) { exchange->respond(200, "text/plain", "hello"); },
         .access = http::Access::kOpen},
        {.method = "POST",
         .path = "/echo",
         .handler =
             [](const ExchangePtr& exchange) { exchange->respond(200, "application/json", exchange->request().body); },
         .body = http::Body::kJson,
         .run_on = http::RunOn::kWorker},
        {.method = "GET", .path = "/park", .handler = park},
        {.method = "POST", .path = "/park", .handler = park, .body = http::Body::kJson},
    };
  }

  // Before what a test's own fixture has, which the server's threads use too.
  void TearDown() override { server.reset(); }

  void start() {
    auto started = http::HttpServer::start(options, routes);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server = std::move(*started);
  }

  HttpClient connect() { return HttpClient(server->port()); }
  // One request on a connection of its own.
  Response ask(std::string_view request, bool to_head = false) {
    HttpClient client = connect();
    client.send(request);
    return client.response(to_head);
  }
  static std::string code_of(const Response& response) {
    const size_t start = response.body.find(R"("code":")");
    if (start == std::string::npos) return "no error: " + response.body;
    return response.body.substr(start + 8, response.body.find('"', start + 8) - start - 8);
  }

  http::HttpOptions options;
  std::vector<http::Route> routes;
  Mailbox<ExchangePtr> parked;  // requests of /park, for the test to answer
  Mailbox<Finished> finished;
  std::unique_ptr<http::HttpServer> server;  // last: its threads use the others
};

}  // namespace spate::testing
