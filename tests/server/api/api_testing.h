// What the endpoints' tests share: a small model, an exchange and a server that only take notes.
#pragma once

#include <gtest/gtest.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chat/chat_testing.h"
#include "server/api/routes.h"
#include "server/api/served_model.h"
#include "server/http/handler.h"

namespace spate::testing {

using api::ApiError;
using api::ApiResult;
using api::ServedModel;

inline constexpr TokenId kImStart = kFirstNamedToken, kImEnd = kFirstNamedToken + 1;

// A token a byte, "ab", "abc" and the two of ChatML; a context of 100; three ids that the tokenizer does not know.
inline std::shared_ptr<const ServedModel> small_model(api::ServedModelOptions options = {}) {
  options.names = {"small", "alias/of-small"};
  options.created = 1'700'000'000;
  options.context_tokens = 100;
  options.vocab_size = 263;
  options.d_model = 3;
  return std::make_shared<const ServedModel>(
      tokenizer_of(byte_level_file({{"<|im_start|>", TokenKind::kControl}, {"<|im_end|>", TokenKind::kControl}})),
      template_of(kChatMl), std::move(options));
}

inline Json parsed(std::string_view text) {
  Json json = Json::parse(text, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << text;
  return json;
}

// The error of a request that must be refused.
template <typename T>
ApiError error_of(const ApiResult<T>& result) {
  if (!result.ok()) return result.error();
  ADD_FAILURE() << "it was accepted";
  return {.status = 0};
}
template <typename T>
T value_of(ApiResult<T> result) {
  if (result.ok()) return std::move(result).value();
  ADD_FAILURE() << result.error().message;
  return T{};
}

class FakeExchange final : public http::Exchange {
 public:
  explicit FakeExchange(http::HttpRequest request) : request_(std::move(request)) {}

  const http::HttpRequest& request() const override { return request_; }
  void release_body() override { request_.body = {}; }
  void respond(int answer_status, std::string_view content_type, std::string answer, http::Headers extra) override {
    EXPECT_FALSE(answered()) << "answered twice";
    EXPECT_EQ(content_type, "application/json");
    status = answer_status;
    body = std::move(answer);
    headers = std::move(extra);
    closed_ = nullptr;
  }
  void begin_events(http::Headers) override {
    EXPECT_FALSE(answered() || streaming);
    streaming = true;
  }
  void event(std::string_view data) override {
    EXPECT_TRUE(streaming && !ended);
    events.emplace_back(data);
  }
  void comment(std::string_view) override {}
  void end_events() override {
    EXPECT_TRUE(streaming && !ended);
    ended = true;
    closed_ = nullptr;
  }
  void on_close(std::function<void()> closed) override {
    if (!gone_) {
      closed_ = std::move(closed);
    } else {
      closed();
    }
  }
  bool is_open() const override { return !gone_ && !answered(); }
  void annotate(std::string_view name, std::string_view value) override { fields[std::string(name)] = value; }
  void annotate(std::string_view name, int64_t value) override { fields[std::string(name)] = value; }
  void annotate(std::string_view name, double value) override { fields[std::string(name)] = value; }

  bool answered() const { return status != 0 || ended; }
  // The client closes the connection.
  void close() {
    gone_ = true;
    if (const auto closed = std::exchange(closed_, nullptr)) closed();
  }
  Json error() const { return parsed(body)["error"]; }
  // Of the events but the last, which must be [DONE].
  std::vector<Json> chunks() const {
    std::vector<Json> all;
    EXPECT_TRUE(ended);
    EXPECT_EQ(events.empty() ? "" : events.back(), "[DONE]");
    for (size_t i = 0; i + 1 < events.size(); ++i) all.push_back(parsed(events[i]));
    return all;
  }

  int status = 0;
  std::string body;
  http::Headers headers;
  bool streaming = false, ended = false;
  std::vector<std::string> events;
  Json fields = Json::object();

 private:
  http::HttpRequest request_;
  std::function<void()> closed_;
  bool gone_ = false;
};

class FakeServing final : public api::Serving {
 public:
  struct Submission {
    RequestId id;
    Request request;
    OutputSink sink;
  };

  ApiResult<std::shared_ptr<const ServedModel>> model() const override {
    if (unavailable) return *unavailable;
    return served;
  }
  Result<RequestId> submit(Request request, EngineTime, OutputSink sink) override {
    if (refuse_from && submissions.size() >= *refuse_from) return refusal;
    submissions.push_back({submissions.size() + 1, std::move(request), std::move(sink)});
    if (on_submit) on_submit();
    return submissions.back().id;
  }
  void cancel(RequestId id) override { cancelled.push_back(id); }

  // What the engine says of a request. The sink may submit others.
  void say(size_t index, const OutputDelta& delta) {
    const OutputSink sink = submissions.at(index).sink;
    sink(submissions[index].id, delta);
  }

  std::shared_ptr<const ServedModel> served = small_model();
  std::optional<ApiError> unavailable;
  std::optional<size_t> refuse_from;  // how many submissions are taken
  Error refusal = Error::busy("the queue is full");
  std::function<void()> on_submit;
  std::vector<Submission> submissions;
  std::vector<RequestId> cancelled;
};

// Tokens of a byte each, all of the text certain at once.
inline OutputDelta text_delta(std::string_view text, int choice = 0) {
  OutputDelta delta{.choice = choice, .text = std::string(text)};
  for (const char byte : text)
    delta.tokens.push_back(
        {static_cast<unsigned char>(byte), -0.5f, {{static_cast<unsigned char>(byte), -0.5f}, {'z', -2}}});
  return delta;
}

inline RequestCost cost_of(int n_prompt, int n_generated, int n_cached = 0) {
  return {.n_prompt_tokens = n_prompt,
          .n_cached_tokens = n_cached,
          .n_generated_tokens = n_generated,
          .queue_seconds = 0.25,
          .prefill_seconds = 0.5,
          .decode_seconds = 2};
}

inline OutputDelta end_delta(FinishReason reason, RequestCost cost = cost_of(10, 5), int choice = 0) {
  return {.choice = choice, .finish = Finish{.reason = reason, .cost = cost}};
}

// The routes over a FakeServing.
class ApiFixture : public ::testing::Test {
 protected:
  using ExchangePtr = std::shared_ptr<FakeExchange>;

  // An exchange that is open holds its job, which holds it.
  ~ApiFixture() override {
    for (const ExchangePtr& exchange : exchanges_) exchange->close();
  }

  // Calls the handler of the first row that fits, as the transport does.
  ExchangePtr ask(const std::string& method, const std::string& path, std::string body = {}, int key_index = -1) {
    if (routes_.empty()) routes_ = api::api_routes(serving, options);
    http::HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = std::move(body);
    request.key_index = key_index;
    for (const http::Route& route : routes_) {
      const bool prefix = route.path.ends_with('*');
      const std::string fixed = prefix ? route.path.substr(0, route.path.size() - 1) : route.path;
      if (route.method != "*" && route.method != method) continue;
      if (prefix ? !path.starts_with(fixed) : path != fixed) continue;
      if (prefix) request.path_rest = path.substr(fixed.size());
      auto exchange = std::make_shared<FakeExchange>(std::move(request));
      exchanges_.push_back(exchange);
      route.handler(exchange);
      return exchange;
    }
    ADD_FAILURE() << "no route for " << method << " " << path;
    return std::make_shared<FakeExchange>(http::HttpRequest{});
  }
  ExchangePtr post(const std::string& path, const Json& body, int key_index = -1) {
    return ask("POST", path, body.dump(), key_index);
  }

  FakeServing serving;
  api::ApiOptions options;

 private:
  std::vector<http::Route> routes_;
  std::vector<ExchangePtr> exchanges_;
};

}  // namespace spate::testing
