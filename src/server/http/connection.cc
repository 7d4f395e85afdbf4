#include "server/http/connection.h"

#include <algorithm>
#include <exception>
#include <fmt/core.h>
#include <utility>

#include "base/log.h"
#include "base/utf8.h"
#include "server/http/exchange.h"

namespace spate::http {
namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
constexpr std::chrono::milliseconds kLingerTime{2'000};
// What is read at once. While an answer is under way a read only watches for the peer's end: thousands of streams hold
// one each.
constexpr size_t kHeaderReadBytes = 4096, kBodyReadBytes = 64 << 10, kWatchReadBytes = 256;
// The parser gets on with any part of a body, but for the line before a chunk and what follows the last one.
constexpr size_t kMaxChunkLineBytes = 16 << 10;
constexpr size_t kKeptCapacityBytes = 16 << 10;  // of a buffer between two uses
// A body that keeps a worker for long: tenths of a second.
constexpr int64_t kHeavyBytes = 256 << 10;

void run_handler(const Route& route, const std::shared_ptr<Exchange>& exchange) {
  // What was thrown may quote the request: its text is not for the log.
  try {
    route.handler(exchange);
  } catch (const std::exception&) {
    log::error("request {}: {} {} threw an exception", exchange->request().id, route.method, route.path);
  }
}

void keep_if_small(std::string& buffer) {
  if (buffer.capacity() > kKeptCapacityBytes) buffer = std::string();
}

}  // namespace

Connection::Connection(std::shared_ptr<Socket> socket, SharedState& shared)
    : socket_(std::move(socket)), shared_(shared) {}

void Connection::start() {
  const SharedState::Admission admission = shared_.add(shared_from_this());
  if (admission == SharedState::Admission::kDropped) return socket_->close(Socket::Close::kOrderly);
  enter(State::kHandshake, shared_.options.header_time);
  socket_->handshake([self = shared_from_this(), admission](bool ok) {
    if (!ok) return self->close(Outcome::kAborted);
    if (admission == SharedState::Admission::kServed) return self->await_request();
    self->received_at_ = Clock::now();
    self->refuse({503, "too_many_connections", "the server has as many connections as it takes; try again later"});
    self->read();
  });
}

void Connection::drain() {
  socket_->post([self = shared_from_this()] {
    // One that is new has a request on its way, most likely.
    if (self->state_ == State::kIdle && self->has_answered_) return self->linger();
    if (self->answer_) self->answer_->end_keep_alive();
  });
}

void Connection::abort() {
  socket_->post([self = shared_from_this()] { self->close(Outcome::kAborted); });
}

void Connection::enter(State state, std::chrono::milliseconds limit) {
  state_ = state;
  phase_limit_ = Clock::now() + limit;
  arm_timer();
}

void Connection::await_request() {
  reader_.reset();
  answer_.reset();
  total_limit_ = ping_at_ = std::nullopt;
  enter(State::kIdle, shared_.options.idle_time);
  advance();
}

// --- reading

void Connection::read() {
  if (reading_ || state_ == State::kClosed) return;
  if (peer_ended_) return on_peer_end();
  size_t n_wanted = kWatchReadBytes;
  if (state_ == State::kIdle || state_ == State::kHeader) n_wanted = kHeaderReadBytes;
  if (state_ == State::kBody || state_ == State::kLingering) n_wanted = kBodyReadBytes;
  // Reading on is the only way to learn that the client went: one that sends too much ahead cannot be made to wait.
  if (state_ == State::kHandling &&
      input_.size() > kBodyReadBytes + static_cast<size_t>(shared_.options.max_header_bytes))
    return close(Outcome::kAborted);
  reading_ = true;
  incoming_.resize(n_wanted);
  socket_->read_some(incoming_, [self = shared_from_this()](size_t n_bytes) { self->on_read(n_bytes); });
}

void Connection::on_read(size_t n_bytes) {
  reading_ = false;
  input_.append(incoming_, 0, n_bytes);
  keep_if_small(incoming_);
  if (n_bytes > 0) return advance();
  peer_ended_ = true;
  on_peer_end();
}

// An answer that is there in full still goes out: the peer may have ended one direction only. One that is yet to be
// computed does not: most peers that end one direction have gone altogether.
void Connection::on_peer_end() {
  if (state_ != State::kHandling || answer_->is_open()) close(Outcome::kClientGone);
}

void Connection::advance() {
  for (;;) {
    switch (state_) {
      case State::kIdle:
        input_.erase(0, std::min(input_.find_first_not_of("\r\n"), input_.size()));  // RFC 9112, 2.2
        if (input_.empty()) return read();
        received_at_ = Clock::now();
        reader_.emplace(shared_.options.max_header_bytes, shared_.options.max_body_bytes);
        total_limit_ = received_at_ + shared_.options.total_time;
        enter(State::kHeader, shared_.options.header_time);
        break;
      case State::kHeader:
        if (!read_header()) return read();
        break;
      case State::kBody:
        if (!read_body()) return read();
        break;
      case State::kLingering:
        input_.clear();
        return read();
      case State::kHandling:
        return read();
      case State::kHandshake:
      case State::kClosed:
        return;
    }
  }
}

// False: more must come in.
bool Connection::read_header() {
  input_.erase(0, reader_->feed(input_));
  if (reader_->state() == RequestReader::State::kHeader) return false;
  if (reader_->state() == RequestReader::State::kFailed)
    refuse(reader_->error());
  else
    on_head();
  return true;
}

bool Connection::read_body() {
  const size_t n_taken = reader_->feed(input_);
  input_.erase(0, n_taken);
  if (reader_->state() == RequestReader::State::kFailed) {
    refuse(reader_->error());
  } else if (!body_lease_.grow_to(reader_->body_bytes())) {
    refuse({503, "overloaded", "the bodies of other requests take all the memory there is for them; try again later"},
           {{"Retry-After", "1"}});
  } else if (reader_->state() == RequestReader::State::kComplete) {
    dispatch();
  } else if (n_taken == 0 && input_.size() > kMaxChunkLineBytes) {
    refuse({400, "bad_request", "the request's body is not in well-formed chunks"});
  } else {
    return false;
  }
  return true;
}

// --- from a header to whoever answers

std::string Connection::request_id() const {
  const std::string* given = reader_ ? find_header(reader_->head().headers, "X-Request-Id") : nullptr;
  return given != nullptr && is_request_id(*given) ? *given : make_request_id();
}

void Connection::make_answer(bool keep_alive) {
  AnswerForm form{.keep_alive = keep_alive && !shared_.draining,
                  .request_id = request_id(),
                  .stream_buffer_bytes = static_cast<size_t>(shared_.options.stream_buffer_bytes),
                  .overloaded = shared_.overloaded};
  if (reader_) {
    const RequestHead& head = reader_->head();
    form.head_only = head.method == "HEAD";
    form.http_1_1 = head.http_1_1;
    if (const std::string* origin = find_header(head.headers, "Origin"))
      form.cors = shared_.cors.answer_headers(*origin);
  }
  const auto wake = [weak = weak_from_this(), socket = socket_] {
    if (auto self = weak.lock()) socket->post([self] { self->on_wake(); });
  };
  const auto post = [socket = socket_](std::function<void()> task) { socket->post(std::move(task)); };
  answer_ =
      std::make_shared<Answer>(std::move(form), Answer::Signals{.wake = wake, .post = post}, shared_.stream_buffers);
  taken_ = Answer::Take::kMore;
  answer_bytes_ = 0;
  timed_out_ = false;
  request_bytes_ = 0;
  key_index_ = -1;
  match_ = {};
  method_ = reader_ ? reader_->head().method : "";
  shared_.exchange_began();
}

// Answers in place of a handler. What has not been read of the request is not worth reading.
void Connection::refuse(const TransportError& error, const Headers& extra) {
  if (!answer_) {
    make_answer(false);
  } else if (body_unread_) {
    answer_->end_keep_alive();
  }
  begin_handling();
  answer_->respond(error.status, kJson, shared_.options.error_body(error), extra);
}

void Connection::begin_handling() {
  state_ = State::kHandling;
  phase_limit_ = std::nullopt;
}

bool Connection::is_preflight(const RequestHead& head) const {
  const std::string* origin = find_header(head.headers, "Origin");
  return head.method == "OPTIONS" && origin != nullptr &&
         find_header(head.headers, "Access-Control-Request-Method") != nullptr &&
         !shared_.cors.answer_headers(*origin).empty();
}

void Connection::on_head() {
  const RequestHead& head = reader_->head();
  make_answer(head.keep_alive);
  body_unread_ = reader_->state() != RequestReader::State::kComplete;
  if (const std::string* host = find_header(head.headers, "Host"); host != nullptr && !shared_.hosts.accepts(*host))
    return refuse({403, "host_not_allowed",
                   fmt::format("this server is not called {}; whoever runs it may allow that name (--allowed-host)",
                               quote(*host))});
  if (is_preflight(head)) {
    if (body_unread_) answer_->end_keep_alive();
    begin_handling();
    return answer_->respond(204, "", "", Cors::preflight_headers());
  }
  std::optional<Target> target = parse_target(head.target);
  if (!target) return refuse({400, "bad_request", "the request's target is no path with an optional query, in UTF-8"});
  target_ = std::move(*target);
  match_ = shared_.routes.find(head.method, target_.path);
  if (match_.route == nullptr && match_.allowed.empty())
    return refuse({404, "not_found", fmt::format("there is no {} here", quote(target_.path))});
  if (match_.route == nullptr)
    return refuse({405, "method_not_allowed", fmt::format("{} takes {}", quote(target_.path), match_.allowed)},
                  {{"Allow", match_.allowed}});
  if (match_.route->access == Access::kKey && !shared_.keys.empty()) {
    const std::string* authorization = find_header(head.headers, "Authorization");
    key_index_ = authorization == nullptr ? -1 : shared_.keys.find(*authorization);
    if (key_index_ < 0)
      return refuse({401, "invalid_api_key",
                     authorization == nullptr ? "this needs an API key: send it as 'Authorization: Bearer KEY'"
                                              : "the API key is not one of this server's"},
                    {{"WWW-Authenticate", "Bearer"}});
  }
  if (const auto problem = check_body(*match_.route)) return refuse(*problem);
  accept_body();
}

std::optional<TransportError> Connection::check_body(const Route& route) const {
  if (route.body == Body::kNone) return std::nullopt;
  const std::string* type = find_header(reader_->head().headers, "Content-Type");
  const std::string* encoding = find_header(reader_->head().headers, "Content-Encoding");
  if (type == nullptr ? reader_->head().has_body() : !is_json_type(*type))
    return TransportError{415, "unsupported_media_type",
                          "the body is to be JSON in UTF-8, with Content-Type application/json"};
  if (encoding != nullptr && !equal_ignoring_case(*encoding, "identity"))
    return TransportError{415, "unsupported_media_type", "the body is to be sent as it is, without a Content-Encoding"};
  return std::nullopt;
}

void Connection::accept_body() {
  if (match_.route->body == Body::kNone) {
    if (body_unread_) answer_->end_keep_alive();
    return dispatch();
  }
  if (!body_unread_) return dispatch();
  body_lease_ = ByteLease(shared_.bodies);
  enter(State::kBody, shared_.options.body_time);
  if (reader_->head().expects_continue && input_.empty()) {
    output_.append(kContinue);
    pump();
  }
}

HttpRequest Connection::take_request() {
  const RequestHead& head = reader_->head();
  HttpRequest request{.method = head.method,
                      .path = target_.path,
                      .path_rest = std::string(match_.path_rest),
                      .query = std::move(target_.query),
                      .headers = {},
                      .body = {},
                      .id = answer_->request_id(),
                      .key_index = key_index_,
                      .peer_address = socket_->peer_address(),
                      .received_at = received_at_};
  for (const Header& header : head.headers)
    if (!equal_ignoring_case(header.name, "Authorization")) request.headers.push_back(header);
  if (reader_->state() == RequestReader::State::kComplete) {
    request.body = reader_->take_body();
    body_unread_ = false;
  }
  return request;
}

void Connection::dispatch() {
  HttpRequest request = take_request();
  request_bytes_ = static_cast<int64_t>(request.body.size());
  reader_.reset();
  begin_handling();
  if (shared_.options.ping_time.count() > 0) ping_at_ = Clock::now() + shared_.options.ping_time;
  arm_timer();
  if (input_.empty()) keep_if_small(input_);  // else the next request's first bytes are in it
  const auto exchange =
      std::make_shared<ConnectionExchange>(std::move(request), std::move(body_lease_), answer_, shared_.internal_error);
  const Route& route = *match_.route;
  if (route.run_on == RunOn::kIo) return run_handler(route, exchange);
  const auto weight = request_bytes_ > kHeavyBytes ? Workers::Weight::kHeavy : Workers::Weight::kLight;
  auto task = [&route, exchange] {
    if (exchange->is_open()) run_handler(route, exchange);
  };
  if (!shared_.workers.post(std::move(task), weight))
    exchange->respond(503, kJson, *shared_.busy, {{"Retry-After", "1"}});
}

// --- sending

void Connection::on_wake() {
  if (state_ == State::kClosed || !answer_) return;
  if (answer_->is_cut_off()) return close(Outcome::kCutOff);
  if (state_ == State::kHandling) pump();
}

void Connection::pump() {
  if (writing_) return;
  if (output_.empty() && state_ == State::kHandling && taken_ != Answer::Take::kLast) {
    taken_ = answer_->take(output_);
    if (taken_ == Answer::Take::kCutOff) return close(Outcome::kCutOff);
  }
  if (output_.empty()) {
    if (taken_ == Answer::Take::kLast) finish_answer();
    if (taken_ == Answer::Take::kAborted) close(Outcome::kAborted);
    return;
  }
  writing_ = true;
  write_limit_ = Clock::now() + shared_.options.write_time;
  arm_timer();
  socket_->write_some(std::string_view(output_).substr(n_written_),
                      [self = shared_from_this()](size_t n_bytes) { self->on_written(n_bytes); });
}

void Connection::on_written(size_t n_bytes) {
  writing_ = false;
  write_limit_ = std::nullopt;
  if (n_bytes == 0) return close(Outcome::kClientGone);
  n_written_ += n_bytes;
  answer_bytes_ += static_cast<int64_t>(n_bytes);
  answer_->sent(n_bytes);
  if (n_written_ == output_.size()) {
    output_.clear();
    keep_if_small(output_);
    n_written_ = 0;
    if (ping_at_) ping_at_ = Clock::now() + shared_.options.ping_time;
  }
  pump();
}

void Connection::finish_answer() {
  has_answered_ = true;
  record(timed_out_ ? Outcome::kTimedOut : Outcome::kComplete);
  if (answer_->keeps_alive() && !body_unread_ && !shared_.draining)
    await_request();
  else
    linger();
}

void Connection::linger() {
  answer_.reset();
  total_limit_ = ping_at_ = std::nullopt;
  enter(State::kLingering, kLingerTime);
  socket_->end_sending();
  advance();
}

void Connection::record(Outcome outcome) {
  shared_.exchange_ended();
  if (!shared_.options.on_finished) return;
  const Answer::Summary summary = answer_->summary();
  const auto seconds_until = [this](Time time) { return std::chrono::duration<double>(time - received_at_).count(); };
  shared_.options.on_finished(
      {.id = answer_->request_id(),
       .method = method_,
       .route = match_.route == nullptr ? std::string_view() : std::string_view(match_.route->path),
       .peer_address = socket_->peer_address(),
       .status = summary.status,
       .outcome = outcome,
       .request_bytes = request_bytes_,
       .answer_bytes = answer_bytes_,
       .first_byte_seconds = summary.begun ? seconds_until(summary.begun_at) : 0,
       .total_seconds = seconds_until(Clock::now()),
       .fields = summary.fields});
}

void Connection::close(Outcome outcome) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  const auto self = shared_from_this();  // the callbacks that are dropped may have been the last to hold this
  socket_->close(outcome == Outcome::kCutOff ? Socket::Close::kReset : Socket::Close::kOrderly);
  shared_.remove(this);
  if (!answer_) return;
  const std::function<void()> closed = answer_->close();
  record(outcome);
  answer_.reset();
  if (closed) closed();
}

// --- time

// The timer is moved only to an earlier time. A later one is found when it fires: limits move with every write, and
// setting a timer costs more than that.
void Connection::arm_timer() {
  std::optional<Time> earliest;
  for (const auto& limit : {phase_limit_, total_limit_, write_limit_, ping_at_})
    if (limit && (!earliest || *limit < *earliest)) earliest = limit;
  if (!earliest || state_ == State::kClosed || (timer_at_ && *timer_at_ <= *earliest)) return;
  timer_at_ = earliest;
  socket_->set_timer(*earliest, [self = shared_from_this()] { self->on_timer(); });
}

void Connection::on_timer() {
  const Time now = Clock::now();
  timer_at_ = std::nullopt;
  const auto passed = [now](const std::optional<Time>& limit) { return limit && *limit <= now; };
  if (passed(write_limit_)) return close(Outcome::kCutOff);
  if (passed(phase_limit_)) on_phase_limit();
  if (passed(total_limit_)) on_total_limit();
  if (passed(ping_at_) && answer_) {
    if (!writing_) answer_->comment("ping");
    ping_at_ = now + shared_.options.ping_time;
  }
  arm_timer();
}

void Connection::on_phase_limit() {
  phase_limit_ = std::nullopt;
  if (state_ == State::kHeader)
    refuse({408, "request_timeout", "the request's header took too long"});
  else if (state_ == State::kBody)
    refuse({408, "request_timeout", "the request's body took too long"});
  else
    close(Outcome::kAborted);
}

void Connection::on_total_limit() {
  total_limit_ = std::nullopt;
  if (!answer_) return;
  begin_handling();
  if (timed_out_) return close(Outcome::kTimedOut);
  timed_out_ = true;
  total_limit_ = Clock::now() + shared_.options.write_time;  // for the rest to go out
  const TransportError error{504, "request_timeout", "the request took longer than this server allows"};
  if (const auto closed = answer_->expire(error.status, shared_.options.error_body(error))) closed();
}

}  // namespace spate::http
