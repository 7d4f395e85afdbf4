// One connection: reads a request, finds who answers it, sends the answer, and reads the next. All limits in time are
// kept here. A state machine on the socket's callbacks, which run one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/answer.h"
#include "server/http/handler.h"
#include "server/http/io.h"
#include "server/http/request_reader.h"
#include "server/http/shared_state.h"
#include "server/http/text.h"

namespace spate::http {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // shared outlives the socket's being open.
  Connection(std::shared_ptr<Socket> socket, SharedState& shared);

  // On the socket's callbacks; registers with the shared state.
  void start();
  // Any thread. Closes now if it waits for another request, else after the answer to the first or the one under way.
  void drain();
  // Any thread. Closes now.
  void abort();

 private:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  using Outcome = RequestRecord::Outcome;

  enum class State : uint8_t {
    kHandshake,
    kIdle,       // no byte of a request is there
    kHeader,     // is being read
    kBody,       // is being read; the answer exists from here on
    kHandling,   // the request is complete, or refused; the answer is not yet sent
    kLingering,  // said all; waits for the peer to end, so that a reset does not overtake the answer
    kClosed,
  };

  void enter(State state, std::chrono::milliseconds limit);
  void await_request();
  void read();
  void on_read(size_t n_bytes);
  void on_peer_end();
  void advance();
  bool read_header();
  bool read_body();

  void make_answer(bool keep_alive);
  std::string request_id() const;
  void refuse(const TransportError& error, const Headers& extra = {});
  void begin_handling();
  bool is_preflight(const RequestHead& head) const;
  void on_head();
  std::optional<TransportError> check_body(const Route& route) const;
  void accept_body();
  void dispatch();
  HttpRequest take_request();

  void on_wake();
  void pump();
  void on_written(size_t n_bytes);
  void finish_answer();
  void linger();
  void record(Outcome outcome);
  void close(Outcome outcome);

  void arm_timer();
  void on_timer();
  void on_phase_limit();
  void on_total_limit();

  const std::shared_ptr<Socket> socket_;
  SharedState& shared_;
  State state_ = State::kHandshake;

  std::string input_;     // came in, not yet understood
  std::string incoming_;  // is being read into
  bool reading_ = false;
  bool peer_ended_ = false;
  bool has_answered_ = false;  // a request

  // The request being read or answered.
  std::optional<RequestReader> reader_;
  Time received_at_ = {};
  std::string method_;
  Target target_;
  RouteTable::Match match_;
  int key_index_ = -1;
  ByteLease body_lease_;
  int64_t request_bytes_ = 0;
  std::shared_ptr<Answer> answer_;
  bool body_unread_ = false;  // of this request: what follows on the connection is no request
  bool timed_out_ = false;

  std::string output_;    // taken from the answer
  size_t n_written_ = 0;  // of output_
  bool writing_ = false;
  Answer::Take taken_ = Answer::Take::kMore;
  int64_t answer_bytes_ = 0;

  // Limits in force.
  std::optional<Time> phase_limit_, total_limit_, write_limit_, ping_at_;
  std::optional<Time> timer_at_;  // what the socket's timer is set to; later limits do not set it again
};

}  // namespace spate::http
