// What bounds a connection: times, bytes, numbers, and how it ends. Waits here are on what the server does; the short
// limits make it do so soon.
#include <algorithm>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "server/http/http_fixture.h"

namespace spate::http {
namespace {

using std::chrono::milliseconds;
using testing::HttpClient;
using testing::Mailbox;
using testing::request_text;
using testing::Response;
using Outcome = RequestRecord::Outcome;
using ::testing::HasSubstr;

std::chrono::steady_clock::time_point in(milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

class HttpLimits : public testing::HttpFixture {
 protected:
  // A stream that has begun; its exchange, whose closing puts the name into `closed`.
  ExchangePtr open_stream(HttpClient& client, const std::string& name = "stream") {
    client.send(request_text("/park"));
    ExchangePtr exchange = parked.take();
    if (!exchange) return nullptr;
    exchange->on_close([this, name] { closed.put(name); });
    exchange->begin_events();
    EXPECT_EQ(client.head().status, 200);
    return exchange;
  }
  Mailbox<std::string> closed;
};

TEST_F(HttpLimits, SlowHeader_Is408) {
  options.header_time = milliseconds(50);
  start();
  EXPECT_EQ(ask("GET /hello HTTP/1.1\r\nHost:").status, 408);
}

TEST_F(HttpLimits, SlowBody_Is408) {
  options.body_time = milliseconds(50);
  start();
  const Response response =
      ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[1,");
  EXPECT_EQ(response.status, 408);
  EXPECT_EQ(response.header("connection"), "close");
}

TEST_F(HttpLimits, IdleConnection_IsClosed) {
  options.idle_time = milliseconds(50);
  start();
  HttpClient fresh = connect();
  EXPECT_TRUE(fresh.at_end());
  HttpClient used = connect();
  used.send(request_text("/hello"));
  EXPECT_EQ(used.response().status, 200);
  EXPECT_TRUE(used.at_end());
}

TEST_F(HttpLimits, LargeHeader_Is431) {
  options.max_header_bytes = 1000;
  start();
  EXPECT_EQ(ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(1000, 'x')).status, 431);
}

TEST_F(HttpLimits, LargeBody_Is413_AndTheClientGetsToReadIt) {
  options.max_body_bytes = 1000;
  start();
  HttpClient client = connect();
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n");
  std::thread sender([&] { client.send(std::string(2 << 20, 'x')); });
  EXPECT_EQ(client.response().status, 413);
  sender.join();
  const std::string chunk = fmt::format("{:x}\r\n{}\r\n", 600, std::string(600, 'x'));
  EXPECT_EQ(ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                "chunked\r\n\r\n" +
                chunk + chunk)
                .status,
            413);
}

TEST_F(HttpLimits, EndlessChunkLine_Is400) {
  start();
  EXPECT_EQ(ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                "chunked\r\n\r\n1;" +
                std::string(100'000, 'x'))
                .status,
            400);
}

TEST_F(HttpLimits, BodiesAltogether_Are503BeyondTheBound_AndGivenBack) {
  options.max_bodies_bytes = 1000;
  start();
  const std::string body(600, ' ');
  HttpClient first = connect();
  first.send(request_text("/park", body));
  ExchangePtr holder = parked.take();
  const Response refused = ask(request_text("/echo", body));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.header("retry-after"), "1");
  holder->release_body();
  EXPECT_EQ(ask(request_text("/echo", body)).status, 200);
  EXPECT_EQ(ask(request_text("/echo", body)).status, 200) << "an exchange that is gone holds nothing";
}

TEST_F(HttpLimits, LargeBodies_LeaveAWorkerToOthers) {
  const auto wait = [this](const ExchangePtr& exchange) {
    parked.put(exchange);
    while (exchange->is_open()) std::this_thread::yield();
  };
  routes.push_back(
      {.method = "POST", .path = "/slow", .handler = wait, .body = http::Body::kJson, .run_on = RunOn::kWorker});
  options.n_workers = 2;
  start();
  const std::string large(300'000, ' ');
  HttpClient first = connect(), second = connect();
  for (HttpClient* client : {&first, &second}) client->send(request_text("/slow", large));
  const ExchangePtr running = parked.take();
  EXPECT_EQ(ask(request_text("/echo", "[1]")).body, "[1]");
  running->respond(200, "", "");
  parked.take()->respond(200, "", "");
  EXPECT_EQ(first.response().status, 200);
  EXPECT_EQ(second.response().status, 200);
}

TEST_F(HttpLimits, RequestsThatWaitForAWorker_HaveABound) {
  std::promise<void> release;
  std::shared_future<void> released(release.get_future());
  Mailbox<int> begun;
  const auto wait = [&](const ExchangePtr& exchange) {
    begun.put(1);
    released.wait();
    exchange->respond(200, "text/plain", "done");
  };
  routes.push_back({.method = "GET", .path = "/slow", .handler = wait, .run_on = RunOn::kWorker});
  options.n_workers = 1;
  options.max_worker_queue = 2;
  start();
  HttpClient runs = connect();
  runs.send(request_text("/slow"));
  begun.take();
  // Of three more, whichever comes last finds two waiting.
  std::vector<HttpClient> others;
  for (int i = 0; i < 3; ++i) {
    others.push_back(connect());
    others.back().send(request_text("/slow"));
  }
  const testing::Finished refused = finished.take();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(ask(request_text("/hello")).status, 200) << "that takes no worker";
  release.set_value();
  EXPECT_EQ(runs.response().status, 200);
  int n_refused = 0;
  for (HttpClient& other : others) {
    const Response response = other.response();
    if (response.status == 200) continue;
    ++n_refused;
    EXPECT_EQ(code_of(response), "overloaded");
    EXPECT_EQ(response.header("retry-after"), "1");
  }
  EXPECT_EQ(n_refused, 1);
}

TEST_F(HttpLimits, ConnectionsBeyondTheBound_Are503) {
  options.max_connections = 2;
  start();
  HttpClient first = connect(), second = connect();
  for (HttpClient* client : {&first, &second}) {
    client->send(request_text("/hello"));
    EXPECT_EQ(client->response().status, 200);
  }
  HttpClient third = connect();
  EXPECT_EQ(third.response().status, 503);
  EXPECT_TRUE(third.at_end());
  first.close();
  // Its place is free once the server has seen it go.
  for (;;) {
    HttpClient later = connect();
    later.send(request_text("/hello"));
    const int status = later.response().status;
    if (status == 200) break;
    ASSERT_EQ(status, 503);
  }
}

TEST_F(HttpLimits, TotalTime_UnansweredIs504) {
  options.total_time = milliseconds(50);
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  const ExchangePtr exchange = parked.take();
  exchange->on_close([this] { closed.put("told"); });
  EXPECT_EQ(client.response().status, 504);
  EXPECT_EQ(closed.take(), "told");
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(finished.take().outcome, Outcome::kTimedOut);
}

TEST_F(HttpLimits, TotalTime_WithinEventsIsAnErrorEvent) {
  options.total_time = milliseconds(50);
  start();
  HttpClient client = connect();
  const ExchangePtr exchange = open_stream(client);
  EXPECT_THAT(client.chunk(), HasSubstr("data: {\"error\":{\"code\":\"request_timeout\"}}\n\n"));
  EXPECT_EQ(client.chunk(), "");
  EXPECT_EQ(closed.take(), "stream");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpLimits, Pings_FillTheSilence) {
  options.ping_time = milliseconds(20);
  start();
  HttpClient client = connect();
  const ExchangePtr exchange = open_stream(client);
  EXPECT_EQ(client.chunk(), ": ping\n\n");
  EXPECT_EQ(client.chunk(), ": ping\n\n");
  HttpClient waiting = connect();
  waiting.send(request_text("/park"));
  const ExchangePtr unanswered = parked.take();
  EXPECT_EQ(client.chunk(), ": ping\n\n");
  unanswered->respond(200, "text/plain", "no pings");
  EXPECT_EQ(waiting.response().body, "no pings");
}

TEST_F(HttpLimits, ClientThatDoesNotRead_IsCutOff_AndOthersStreamOn) {
  options.stream_buffer_bytes = 64 << 10;
  options.send_buffer_bytes = 8 << 10;
  start();
  HttpClient stuck(server->port(), {.receive_buffer_bytes = 4096});
  const ExchangePtr to_stuck = open_stream(stuck, "stuck");
  HttpClient reader = connect();
  const ExchangePtr to_reader = open_stream(reader, "reader");
  const std::string data(1000, 'x');
  int64_t n_bytes = 0;
  while (to_stuck->is_open()) {
    to_stuck->event(data);
    to_reader->event("x");
    ASSERT_EQ(reader.chunk(), "data: x\n\n");
    ASSERT_LT(n_bytes += 1000, 10 << 20) << "nobody cuts it off";
  }
  EXPECT_EQ(closed.take(), "stuck");
  EXPECT_EQ(finished.take().outcome, Outcome::kCutOff);
  to_reader->end_events();
  EXPECT_EQ(reader.chunk(), "");
}

TEST_F(HttpLimits, LargeEvent_DoesNotCutOffAClientThatReads) {
  options.stream_buffer_bytes = 64 << 10;
  start();
  HttpClient client = connect();
  const ExchangePtr exchange = open_stream(client);
  for (int i = 0; i < 3; ++i) {
    const std::string data(3 << 20, 'x');
    exchange->event(data);
    std::string got;
    while (!got.ends_with("\n\n")) got += client.chunk();
    EXPECT_EQ(got.size(), data.size() + 8);
  }
  EXPECT_TRUE(exchange->is_open());
}

TEST_F(HttpLimits, AllStreamsTogether_HaveABoundToo) {
  options.stream_buffers_bytes = 256 << 10;
  options.send_buffer_bytes = 8 << 10;
  start();
  std::vector<HttpClient> stuck;
  std::vector<ExchangePtr> streams;
  for (int i = 0; i < 4; ++i) {
    stuck.emplace_back(server->port(), HttpClient::Options{.receive_buffer_bytes = 4096});
    streams.push_back(open_stream(stuck.back()));
  }
  HttpClient reader = connect();
  const ExchangePtr to_reader = open_stream(reader);
  const std::string data(1000, 'x');
  int64_t n_bytes = 0;
  const auto any_open = [&] {
    return std::any_of(streams.begin(), streams.end(), [](const ExchangePtr& stream) { return stream->is_open(); });
  };
  // Each of them is far below its own bound of a mebibyte when all together reach theirs.
  for (; any_open(); n_bytes += 1000) {
    for (const ExchangePtr& stream : streams) stream->event(data);
    to_reader->event("x");
    ASSERT_EQ(reader.chunk(), "data: x\n\n");
    ASSERT_LT(n_bytes, 800'000);
  }
  EXPECT_TRUE(to_reader->is_open());
}

TEST_F(HttpLimits, AnswersAltogether_Are503BeyondTheBound) {
  const auto large = [](const ExchangePtr& exchange) {
    exchange->respond(200, "text/plain", std::string(4 << 20, 'x'));
  };
  routes.push_back({.method = "GET", .path = "/large", .handler = large});
  options.stream_buffers_bytes = 256 << 10;
  start();
  HttpClient idle(server->port(), {.receive_buffer_bytes = 4096});
  idle.send(request_text("/large"));
  EXPECT_EQ(idle.head().status, 200);
  const Response refused = ask(request_text("/large"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(code_of(refused), "overloaded");
  EXPECT_EQ(ask(request_text("/hello")).status, 200) << "small ones go out";
  for (int i = 0; i < 2; ++i) finished.take();
  idle.close();
  EXPECT_EQ(finished.take().outcome, Outcome::kClientGone);
  EXPECT_EQ(ask(request_text("/large")).body.size(), size_t{4} << 20);
}

TEST_F(HttpLimits, ClientThatTakesNothingForTooLong_IsCutOff) {
  options.write_time = milliseconds(50);
  options.send_buffer_bytes = 8 << 10;
  start();
  HttpClient stuck(server->port(), {.receive_buffer_bytes = 4096});
  stuck.send(request_text("/park"));
  parked.take()->respond(200, "text/plain", std::string(32 << 20, 'x'));
  EXPECT_EQ(finished.take().outcome, Outcome::kCutOff);
}

// The whole answer has left the server, but not its machine: that the client's window is closed is no reason to end it.
TEST_F(HttpLimits, SlowClient_GetsWhatTheKernelHolds) {
  options.write_time = milliseconds(500);
  start();
  HttpClient slow(server->port(), {.receive_buffer_bytes = 4096});
  slow.send(request_text("/park"));
  parked.take()->respond(200, "text/plain", std::string(32 << 10, 'x'));
  EXPECT_EQ(finished.take().outcome, Outcome::kComplete);
  std::this_thread::sleep_for(2 * options.write_time);
  EXPECT_EQ(slow.response().body.size(), 32u << 10);
}

TEST_F(HttpLimits, ClientThatGoes_IsNoticed_WaitingAndStreaming) {
  start();
  HttpClient waiting = connect();
  waiting.send(request_text("/park"));
  const ExchangePtr unanswered = parked.take();
  unanswered->on_close([this] { closed.put("waiting"); });
  waiting.close();
  EXPECT_EQ(closed.take(), "waiting");
  EXPECT_FALSE(unanswered->is_open());
  HttpClient streaming = connect();
  const ExchangePtr stream = open_stream(streaming);
  streaming.close();
  EXPECT_EQ(closed.take(), "stream");
  EXPECT_EQ(finished.take().outcome, Outcome::kClientGone);
  stream->on_close([this] { closed.put("late"); });
  EXPECT_EQ(closed.take(), "late") << "who asks late is told too";
}

// Else what it sends would have to wait unread, and so would the news that it went.
TEST_F(HttpLimits, ClientThatSendsTooMuchAhead_IsClosed) {
  options.max_header_bytes = 1000;
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  const ExchangePtr exchange = parked.take();
  exchange->on_close([this] { closed.put("ahead"); });
  client.send(std::string(100'000, 'x'));
  EXPECT_EQ(closed.take(), "ahead");
  EXPECT_EQ(finished.take().outcome, Outcome::kAborted);
}

TEST_F(HttpLimits, OnClose_IsNotCalledAfterTheAnswer_AndLetGoOf) {
  start();
  HttpClient client = connect();
  client.send(request_text("/park"));
  ExchangePtr exchange = parked.take();
  const auto held = std::make_shared<int>();
  exchange->on_close([this, held, exchange] { closed.put("wrongly"); });
  exchange->respond(200, "text/plain", "done");
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(client.response().body, "done");
  client.close();
  EXPECT_EQ(exchange.use_count(), 1);
  exchange.reset();
  HttpClient next = connect();
  const ExchangePtr stream = open_stream(next, "next");
  next.close();
  EXPECT_EQ(closed.take(), "next") << "and nothing before it";
}

TEST_F(HttpLimits, ClientThatEndsSending_StillGetsAnAnswerThatIsReady) {
  start();
  HttpClient client = connect();
  client.send(request_text("/hello"));
  client.end_sending();
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpLimits, ManyStreams_ShareTheThreads) {
  start();
  std::vector<HttpClient> clients;
  std::vector<ExchangePtr> streams;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(connect());
    streams.push_back(open_stream(clients.back()));
  }
  for (int round = 0; round < 3; ++round) {
    for (const ExchangePtr& stream : streams) stream->event("x");
    for (HttpClient& client : clients) ASSERT_EQ(client.chunk(), "data: x\n\n");
  }
  for (const ExchangePtr& stream : streams) stream->end_events();
  for (HttpClient& client : clients) EXPECT_EQ(client.chunk(), "");
}

TEST_F(HttpLimits, EventsFromManyThreads_AllArriveInOrder) {
  start();
  constexpr int kThreads = 4, kEvents = 2000;
  std::vector<HttpClient> clients;
  std::vector<ExchangePtr> streams;
  for (int i = 0; i < kThreads; ++i) {
    clients.push_back(connect());
    streams.push_back(open_stream(clients.back()));
  }
  std::vector<std::thread> threads;
  for (const ExchangePtr& stream : streams)
    threads.emplace_back([stream] {
      for (int i = 0; i < kEvents; ++i) stream->event(std::to_string(i));
      stream->end_events();
    });
  for (HttpClient& client : clients) {
    std::string got, wanted;
    for (std::string chunk = client.chunk(); !chunk.empty(); chunk = client.chunk()) got += chunk;
    for (int i = 0; i < kEvents; ++i) wanted += fmt::format("data: {}\n\n", i);
    EXPECT_TRUE(got == wanted);
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(HttpLimits, Drain_EndsIdleConnections_AndOthersAfterTheirAnswer) {
  start();
  HttpClient idle = connect();
  idle.send(request_text("/hello"));
  EXPECT_EQ(idle.response().status, 200);
  HttpClient fresh = connect();
  HttpClient streaming = connect();  // accepted after that one
  const ExchangePtr stream = open_stream(streaming);
  EXPECT_EQ(server->n_requests(), 1);
  server->drain();
  EXPECT_TRUE(idle.at_end());
  fresh.send(request_text("/hello"));
  EXPECT_EQ(fresh.response().status, 200) << "its request was on its way";
  const Response probe = ask(request_text("/hello"));
  EXPECT_EQ(probe.status, 200) << "new connections are served";
  EXPECT_EQ(probe.header("connection"), "close");
  EXPECT_FALSE(server->wait_until_idle(in(milliseconds(0))));
  stream->event("last");
  stream->end_events();
  EXPECT_THAT(streaming.chunk(), HasSubstr("last"));
  EXPECT_EQ(streaming.chunk(), "");
  EXPECT_TRUE(streaming.at_end());
  EXPECT_TRUE(server->wait_until_idle(in(std::chrono::seconds(20))));
}

TEST_F(HttpLimits, Stop_WaitsForHandlers_WhoseExchangesAreToldToo) {
  const auto slow = [this](const ExchangePtr& exchange) {
    parked.put(exchange);
    // As long as the server lives on, or would notice that it is gone.
    const auto until = in(milliseconds(100));
    while (std::chrono::steady_clock::now() < until && exchange->is_open()) std::this_thread::yield();
    exchange->on_close([this] { closed.put("told"); });
  };
  routes.push_back({.method = "GET", .path = "/slow", .handler = slow, .run_on = RunOn::kWorker});
  start();
  HttpClient client = connect();
  client.send(request_text("/slow"));
  const ExchangePtr exchange = parked.take();
  server->stop();
  EXPECT_EQ(closed.take(), "told");
}

TEST_F(HttpLimits, Stop_ClosesEverything_AndExchangesMayOutliveIt) {
  start();
  HttpClient streaming = connect(), waiting = connect(), idle = connect();
  ExchangePtr stream = open_stream(streaming);
  waiting.send(request_text("/park"));
  ExchangePtr unanswered = parked.take();
  server->stop();
  EXPECT_EQ(closed.take(), "stream");
  EXPECT_TRUE(streaming.at_end());
  EXPECT_TRUE(waiting.at_end());
  EXPECT_TRUE(idle.at_end());
  server.reset();
  EXPECT_FALSE(stream->is_open());
  stream->event("to nobody");
  unanswered->respond(200, "text/plain", "to nobody");
}

}  // namespace
}  // namespace spate::http
