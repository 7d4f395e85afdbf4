// Requests on their way through the engine, and what becomes of them when something goes wrong.
#include "server/api/job.h"

#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/api_testing.h"

namespace spate::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Jobs : public ApiFixture {
 protected:
  static Json chat(bool stream, int n = 1) {
    return {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"stream", stream}, {"n", n}};
  }
  ExchangePtr post_chat(bool stream, int n = 1) { return post("/v1/chat/completions", chat(stream, n)); }
  ExchangePtr post_prompts(size_t n, bool stream = false) {
    return post("/v1/completions", {{"prompt", std::vector<std::string>(n, "a")}, {"stream", stream}});
  }
};

TEST_F(Jobs, Chat_SubmitsTheRenderedPromptAndAnswersWithItsText) {
  const auto exchange = post_chat(false);
  ASSERT_EQ(serving.submissions.size(), 1u);
  const Request& request = serving.submissions[0].request;
  EXPECT_EQ(request.prompt.front(), kImStart);
  EXPECT_EQ(request.max_tokens, std::nullopt);
  EXPECT_THAT(request.stop_tokens, ElementsAre(kImEnd));
  EXPECT_EQ(exchange->request().body, "");  // let go of once read
  serving.say(0, text_delta("hello"));
  EXPECT_FALSE(exchange->answered());
  serving.say(0, end_delta(FinishReason::kStop));
  EXPECT_EQ(exchange->status, 200);
  EXPECT_EQ(parsed(exchange->body)["choices"][0]["message"]["content"], "hello");
  EXPECT_EQ(exchange->fields["prompt_tokens"], 10);
  EXPECT_EQ(exchange->fields["completion_tokens"], 5);
  EXPECT_THAT(serving.cancelled, IsEmpty());
}

TEST_F(Jobs, Stream_EndsWithDone) {
  const auto exchange = post_chat(true);
  EXPECT_FALSE(exchange->streaming);  // an error would still have its status
  serving.say(0, text_delta("hel"));
  EXPECT_TRUE(exchange->streaming);
  serving.say(0, text_delta("lo"));
  serving.say(0, end_delta(FinishReason::kLength));
  std::string text;
  for (const Json& chunk : exchange->chunks()) text += chunk["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(text, "hello");
}

TEST_F(Jobs, StreamOfSeveralChoices_EndsWithTheLast) {
  const auto exchange = post_chat(true, 2);
  EXPECT_EQ(serving.submissions[0].request.n_choices, 2);
  serving.say(0, text_delta("b", 1));
  serving.say(0, end_delta(FinishReason::kStop, cost_of(1, 1), 1));
  EXPECT_FALSE(exchange->ended);
  serving.say(0, end_delta(FinishReason::kStop, cost_of(1, 1), 0));
  EXPECT_EQ(exchange->chunks().size(), 5u);  // two roles, a text, two reasons
}

TEST_F(Jobs, RefusalOfTheEngine_HasItsStatus) {
  serving.refuse_from = 0;
  const auto exchange = post_chat(true);
  EXPECT_EQ(exchange->status, 429);
  ASSERT_EQ(exchange->headers.size(), 1u);
  EXPECT_EQ(exchange->headers[0].name, "Retry-After");
  serving.refusal = Error::out_of_resources("the pool is too small");
  EXPECT_EQ(post_chat(false)->status, 400);
  serving.refusal = Error::backend("the device is gone");
  EXPECT_EQ(post_chat(false)->status, 500);
  serving.refusal = Error::interrupted("stopping");
  EXPECT_EQ(post_chat(true)->status, 503);
}

TEST_F(Jobs, WhileThereIsNoModel_RequestsAre503) {
  serving.unavailable = ApiError::unavailable("the model is loading");
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template"})
    EXPECT_EQ(post(path, Json::object())->status, 503) << path;
  EXPECT_EQ(ask("GET", "/v1/models")->status, 503);
  EXPECT_EQ(ask("GET", "/v1/models/small")->status, 503);
  EXPECT_EQ(ask("GET", "/openapi.json")->status, 200);
}

TEST_F(Jobs, ErrorBeforeTheFirstToken_HasAStatus) {
  const auto exchange = post_chat(true);
  Finish finish{.reason = FinishReason::kError, .error = Error::backend("the device failed")};
  serving.say(0, {.finish = finish});
  EXPECT_EQ(exchange->status, 500);
  EXPECT_EQ(exchange->error()["message"], "the device failed");
}

TEST_F(Jobs, ErrorAmidAStream_IsItsLastEvent) {
  const auto exchange = post_chat(true, 2);
  serving.say(0, text_delta("hel"));
  const size_t n_before = exchange->events.size();
  Finish finish{.reason = FinishReason::kError, .error = Error::backend("the device failed")};
  serving.say(0, {.finish = finish});
  ASSERT_EQ(exchange->events.size(), n_before + 1);
  EXPECT_EQ(parsed(exchange->events.back())["error"]["message"], "the device failed");
  EXPECT_TRUE(exchange->ended);
  EXPECT_THAT(serving.cancelled, ElementsAre(1));  // the other choice
  serving.say(0, text_delta("lo", 1));             // it was under way already
  EXPECT_EQ(exchange->events.size(), n_before + 1);
}

TEST_F(Jobs, Deadline_Is504AndCancelByTheServer503) {
  const auto late = post_chat(false);
  serving.say(0, end_delta(FinishReason::kDeadline));
  EXPECT_EQ(late->status, 504);
  EXPECT_EQ(late->error()["code"], "timeout");
  const auto cancelled = post_chat(false);
  serving.say(1, end_delta(FinishReason::kCancelled));
  EXPECT_EQ(cancelled->status, 503);
}

TEST_F(Jobs, ClientThatGoes_CancelsItsRequests) {
  const auto exchange = post_prompts(3);
  exchange->close();
  EXPECT_THAT(serving.cancelled, ElementsAre(1, 2, 3));
  serving.say(0, end_delta(FinishReason::kCancelled));
  EXPECT_EQ(exchange->status, 0);
}

TEST_F(Jobs, ClientThatGoesWhileItsRequestIsSubmitted_CancelsItToo) {
  auto exchange = std::make_shared<FakeExchange>(http::HttpRequest{});
  serving.on_submit = [&] { exchange->close(); };
  api::Work work{.stream = false};
  work.requests.resize(2, Request{.prompt = {1}});
  work.answer = nullptr;  // never asked
  api::DelayedCalls patience(std::chrono::hours(1));
  std::make_shared<api::Job>(serving, exchange, std::move(work))->start(patience, patience);
  EXPECT_EQ(serving.submissions.size(), 1u);  // the second is not wanted any more
  EXPECT_THAT(serving.cancelled, ElementsAre(1));
}

TEST_F(Jobs, ClientThatWentBefore_SubmitsNothing) {
  auto exchange = std::make_shared<FakeExchange>(http::HttpRequest{});
  exchange->close();
  api::Work work;
  work.requests.resize(1, Request{.prompt = {1}});
  api::DelayedCalls patience(std::chrono::hours(1));
  std::make_shared<api::Job>(serving, exchange, std::move(work))->start(patience, patience);
  EXPECT_THAT(serving.submissions, IsEmpty());
}

TEST_F(Jobs, ManyPrompts_AreSubmittedAsOthersEnd) {
  const auto exchange = post_prompts(100);
  EXPECT_EQ(serving.submissions.size(), static_cast<size_t>(api::kMaxChoicesInEngine));
  for (size_t i = 0; i < 100; ++i) {
    ASSERT_GT(serving.submissions.size(), i);
    serving.say(i, text_delta(fmt::format("<{}>", i)));
    serving.say(i, end_delta(FinishReason::kStop, cost_of(1, 1)));
  }
  EXPECT_EQ(serving.submissions.size(), 100u);
  ASSERT_EQ(exchange->status, 200);
  const Json body = parsed(exchange->body);
  EXPECT_EQ(body["choices"].size(), 100u);
  EXPECT_EQ(body["choices"][99]["text"], "<99>");
}

TEST_F(Jobs, QueueThatIsFullInTheMiddle_IsTriedAgainWhenAPromptEnds) {
  serving.refuse_from = 2;
  const auto exchange = post_prompts(4);
  EXPECT_FALSE(exchange->answered());
  serving.say(0, end_delta(FinishReason::kStop, cost_of(1, 1)));
  EXPECT_EQ(serving.submissions.size(), 2u);  // still full
  serving.refuse_from = std::nullopt;
  serving.say(1, end_delta(FinishReason::kStop, cost_of(1, 1)));
  EXPECT_EQ(serving.submissions.size(), 4u);
  serving.say(2, end_delta(FinishReason::kStop, cost_of(1, 1)));
  serving.say(3, end_delta(FinishReason::kStop, cost_of(1, 1)));
  EXPECT_EQ(exchange->status, 200);
}

// Takes a request, is then full for a while, and takes the rest.
class FullForAWhile final : public api::Serving {
 public:
  ApiResult<std::shared_ptr<const ServedModel>> model() const override { return small_model(); }
  Result<RequestId> submit(Request, EngineTime, OutputSink sink) override {
    ++n_calls;
    if (n_calls > 1 && n_calls <= 4) return Error::busy("the queue is full");
    sinks.push_back(std::move(sink));
    if (n_calls > 4) taken.set_value();
    return sinks.size();
  }
  void cancel(RequestId) override {}

  int n_calls = 0;
  std::vector<OutputSink> sinks;
  std::promise<void> taken;
};

TEST_F(Jobs, QueueThatStaysFull_IsTriedAgainByATimerOnceAPromptWasTaken) {
  FullForAWhile full;
  const auto routes = api::api_routes(full, options);
  http::HttpRequest request;
  request.body = R"({"prompt": ["a", "b"]})";
  const auto exchange = std::make_shared<FakeExchange>(std::move(request));
  for (const http::Route& route : routes)
    if (route.path == "/v1/completions") route.handler(exchange);
  ASSERT_EQ(full.sinks.size(), 1u);
  const OutputSink first = full.sinks[0];
  first(1, end_delta(FinishReason::kStop, cost_of(1, 1)));  // nothing of the request runs now, and the queue is full
  full.taken.get_future().wait();
  EXPECT_FALSE(exchange->answered());
  const OutputSink second = full.sinks[1];
  second(2, end_delta(FinishReason::kStop, cost_of(1, 1)));
  EXPECT_EQ(exchange->status, 200);
}

class AnswerThatThrows final : public api::Answer {
 public:
  void add(size_t, const OutputDelta&, api::Events&) override {
    if (!in_body) throw std::bad_alloc();
  }
  void end(api::Events&) override {}
  std::string body() override { throw std::bad_alloc(); }
  const api::Usage& usage() const override { return usage_; }
  bool in_body = false;

 private:
  api::Usage usage_;
};

TEST_F(Jobs, AnswerThatThrows_FailsItsRequestAlone) {
  for (const bool in_body : {false, true}) {
    auto exchange = std::make_shared<FakeExchange>(http::HttpRequest{});
    auto answer = std::make_unique<AnswerThatThrows>();
    answer->in_body = in_body;
    api::Work work;
    work.requests.push_back({.prompt = {1}});
    work.answer = std::move(answer);
    api::DelayedCalls patience(std::chrono::hours(1));
    std::make_shared<api::Job>(serving, exchange, std::move(work))->start(patience, patience);
    serving.say(serving.submissions.size() - 1, end_delta(FinishReason::kStop));
    EXPECT_EQ(exchange->status, 500);
    EXPECT_EQ(serving.cancelled.size(), serving.submissions.size());
  }
}

TEST_F(Jobs, StreamThatWaits_BeginsWithoutAToken) {
  auto begun = std::make_shared<std::promise<void>>();
  class Watched final : public http::Exchange {
   public:
    explicit Watched(std::shared_ptr<std::promise<void>> promise) : begun_(std::move(promise)) {}
    const http::HttpRequest& request() const override { return request_; }
    void release_body() override {}
    void respond(int, std::string_view, std::string, http::Headers) override { ADD_FAILURE() << "answered"; }
    void begin_events(http::Headers) override { begun_->set_value(); }
    void event(std::string_view data) override { last = data; }
    void comment(std::string_view) override {}
    void end_events() override { ended = true; }
    void on_close(std::function<void()>) override {}
    bool is_open() const override { return true; }
    void annotate(std::string_view, std::string_view) override {}
    void annotate(std::string_view, int64_t) override {}
    void annotate(std::string_view, double) override {}
    std::string last;
    bool ended = false;

   private:
    std::shared_ptr<std::promise<void>> begun_;
    http::HttpRequest request_;
  };
  const auto exchange = std::make_shared<Watched>(begun);
  api::Work work{.stream = true};
  work.requests.push_back({.prompt = {1}});
  api::DelayedCalls patience(std::chrono::milliseconds(0));
  std::make_shared<api::Job>(serving, exchange, std::move(work))->start(patience, patience);
  begun->get_future().wait();
  // From here on an error is an event.
  serving.say(0, {.finish = Finish{.reason = FinishReason::kError, .error = Error::backend("gone")}});
  EXPECT_THAT(exchange->last, HasSubstr("gone"));
  EXPECT_TRUE(exchange->ended);
}

TEST_F(Jobs, Embeddings_AskForHiddenStatesAndGenerateNothing) {
  const auto exchange = post("/v1/embeddings", {{"input", Json::array({"abc", "x"})}, {"pooling", "last"}});
  ASSERT_EQ(serving.submissions.size(), 2u);
  EXPECT_EQ(serving.submissions[0].request.pooling, Pooling::kLast);
  EXPECT_EQ(serving.submissions[0].request.max_tokens, 0);
  Finish finish{.reason = FinishReason::kLength, .cost = cost_of(1, 0)};
  serving.say(1, {.embedding = {0, 1, 0}, .finish = finish});
  serving.say(0, {.embedding = {1, 0, 0}, .finish = finish});
  ASSERT_EQ(exchange->status, 200);
  EXPECT_EQ(parsed(exchange->body)["data"][1]["embedding"], parsed("[0, 1, 0]"));
}

TEST_F(Jobs, EchoWithLogprobs_AsksForThePromptsScores) {
  post("/v1/completions", {{"prompt", "ab"}, {"echo", true}, {"logprobs", 3}, {"max_tokens", 0}});
  post("/v1/completions", {{"prompt", "ab"}, {"echo", true}});
  ASSERT_EQ(serving.submissions.size(), 2u);
  EXPECT_TRUE(serving.submissions[0].request.prompt_logprobs);
  EXPECT_EQ(serving.submissions[0].request.n_logprobs, 3);
  EXPECT_FALSE(serving.submissions[1].request.prompt_logprobs);
  EXPECT_EQ(serving.submissions[1].request.max_tokens, 16);
}

TEST_F(Jobs, Priority_IsBoundedByKey) {
  options.max_priority_by_key = {5, 50};
  const auto status = [&](int priority, int key) {
    return post("/v1/completions", {{"prompt", "a"}, {"priority", priority}}, key)->status;
  };
  EXPECT_EQ(status(-10, -1), 0);
  EXPECT_EQ(status(0, -1), 0);
  EXPECT_EQ(status(1, -1), 400);
  EXPECT_EQ(status(5, 0), 0);
  EXPECT_EQ(status(6, 0), 400);
  EXPECT_EQ(status(50, 1), 0);
  EXPECT_EQ(status(1, 2), 400);
  EXPECT_EQ(serving.submissions.back().request.priority, 50);
}

TEST(DelayedCalls, ComeInOrderAndNotAfterTheEnd) {
  std::vector<int> seen;
  std::promise<void> third;
  auto dropped = std::make_shared<int>(0);
  {
    api::DelayedCalls calls(std::chrono::milliseconds(1));
    for (const int i : {1, 2}) calls.add([&seen, i] { seen.push_back(i); });
    calls.add([&] { third.set_value(); });
    third.get_future().wait();
    EXPECT_THAT(seen, ElementsAre(1, 2));
  }
  {
    api::DelayedCalls calls(std::chrono::hours(1));
    calls.add([dropped] { ++*dropped; });
  }
  EXPECT_EQ(*dropped, 0);
  EXPECT_EQ(dropped.use_count(), 1);
}

}  // namespace
}  // namespace spate::testing
