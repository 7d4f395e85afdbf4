// Everything that clients may do wrong at once, beside one that does nothing wrong: that one's stream is whole, every
// other has a reason, and nothing is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/server_fixture.h"

namespace spate::server {
namespace {

using ::testing::HasSubstr;
using testing::HttpClient;
using testing::request_text;
using testing::Response;

class Promises : public testing::ServerFixture {
 protected:
  Promises() {
    options.http.max_body_bytes = 4 << 20;
    options.http.header_time = std::chrono::milliseconds(300);
  }

  // The status of an error, which has OpenAI's shape.
  int status_of(std::string_view request) {
    const Response response = ask(request);
    EXPECT_THAT(response.body, HasSubstr(R"({"error":{"message":")")) << request.substr(0, 200);
    return response.status;
  }
  int status_of_json(std::string_view body) { return status_of(request_text("/v1/completions", body)); }
};

TEST_F(Promises, BadRequests_AreRefusedWithAReason_WhileOthersStream) {
  start_and_serve();
  executor->hold_from(10);
  HttpClient good(server->port());
  good.send(completion(100, true));
  EXPECT_EQ(good.head().status, 200);
  executor->wait_until_held();

  EXPECT_EQ(status_of_json("{"), 400);
  EXPECT_EQ(status_of_json("[]"), 400);
  EXPECT_EQ(status_of_json("{\"prompt\":\"\xFF\"}"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","n":1000000000})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","max_tokens":-1})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","max_tokens":1e300})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","temperature":NaN})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","temperature":1e999})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":[1,2,999999]})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":[-1]})"), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":"a","max_tokens":100000})"), 400) << "it never fits";
  std::string stops = R"({"prompt":"a","stop":[")" + std::string("x");
  for (int i = 0; i < 100'000; ++i) stops += "\",\"x";
  EXPECT_EQ(status_of_json(stops + "\"]}"), 400);
  EXPECT_EQ(status_of_json(std::string(1'000'000, '[')), 400);
  EXPECT_EQ(status_of_json(R"({"prompt":")" + std::string(100'000, 'x') + "\"}"), 400);
  EXPECT_EQ(status_of("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      "Content-Length: 1000000000\r\n\r\n{"),
            413);
  EXPECT_EQ(status_of("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                      "Content-Length: 2\r\n\r\n{}"),
            415);
  EXPECT_EQ(status_of("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"),
            400);
  EXPECT_EQ(status_of("GET /health HTTP/1.1\r\nX-Slow:"), 408);
  EXPECT_EQ(status_of("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(1 << 20, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(status_of("DELETE /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
  EXPECT_EQ(status_of(request_text("/v1/responses", "{}")), 404);

  executor->release();
  std::string rest;
  for (std::string chunk = good.chunk(); !chunk.empty(); chunk = good.chunk()) rest += chunk;
  EXPECT_THAT(rest, HasSubstr("data: [DONE]"));
  expect_soon("spate_generation_tokens_total", 100);
  expect_all_freed();
}

TEST_F(Promises, ClientsThatGo_LeaveNothingBehind) {
  start_and_serve();
  StepId held_at = 10;
  executor->hold_from(held_at);
  HttpClient good(server->port());
  good.send(completion(500, true));
  EXPECT_EQ(good.head().status, 200);
  executor->wait_until_held();
  {
    std::vector<HttpClient> leaving;  // more than run at a time: some go from the queue, some amid their prompt
    for (int i = 0; i < 20; ++i) {
      leaving.emplace_back(server->port());
      leaving.back().send(completion(400, i % 2 == 0, std::string(100 + static_cast<size_t>(i), 'p')));
    }
    HttpClient half(server->port());
    half.send(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        "9\r\n\r\n{");
    // Step by step, until the engine has them all.
    while (metric("spate_num_requests_waiting") + metric("spate_num_requests_running") < 21) {
      ASSERT_LT(held_at, 300u);
      executor->hold_from(++held_at);
    }
  }
  expect_soon("spate_http_clients_gone_total", 21);
  executor->release();
  std::string rest;
  for (std::string chunk = good.chunk(); !chunk.empty(); chunk = good.chunk()) rest += chunk;
  EXPECT_THAT(rest, HasSubstr("data: [DONE]"));
  expect_soon(R"(spate_finished_total{reason="cancelled"})", 20);
  expect_all_freed();
  EXPECT_EQ(metric(R"(spate_kv_pages{state="free"})") + metric(R"(spate_kv_pages{state="cached"})"), 100);
}

TEST_F(Promises, ClientThatDoesNotRead_IsCutOff_AndItsPlaceFreed) {
  options.http.stream_buffer_bytes = 16 << 10;
  options.http.send_buffer_bytes = 4096;
  start_and_serve();
  HttpClient stuck(server->port(), {.receive_buffer_bytes = 2048});
  // Eight answers of 500 tokens with their log-probabilities: far more than the buffers hold.
  stuck.send(
      request_text("/v1/completions", R"({"prompt":"hello","max_tokens":500,"n":8,"logprobs":5,"stream":true})"));
  expect_soon("spate_http_clients_cut_off_total", 1);
  const Response other = ask(completion(10, false));
  EXPECT_EQ(other.status, 200);
  expect_all_freed();
}

}  // namespace
}  // namespace spate::server
