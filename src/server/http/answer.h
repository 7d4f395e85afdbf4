// The answer to one request, where its two ends meet: handlers fill it from any thread, the connection empties it on an
// I/O thread. Between them stand a lock and a bound.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "server/http/handler.h"

namespace spate::http {

// What an answer looks like on the wire, as far as the request decides it.
struct AnswerForm {
  bool head_only = false;
  bool http_1_1 = true;
  bool keep_alive = true;
  std::string request_id = {};
  Headers cors = {};
  size_t stream_buffer_bytes = 0;
  std::shared_ptr<const std::string> overloaded = {};  // the body of a 503
};

// What all answers of a server hold that their clients have not taken.
struct StreamBuffers {
  explicit StreamBuffers(int64_t limit) : limit_bytes(limit) {}
  const int64_t limit_bytes;
  std::atomic<int64_t> held_bytes = 0;
};

class Answer {
 public:
  // wake: called, under the answer's lock, when there is something for the connection to see; once until it has looked
  // (take()), and again for a cut-off; not after close(). It posts, no more. post: runs a function on an I/O thread.
  struct Signals {
    std::function<void()> wake;
    std::function<void(std::function<void()>)> post;
  };
  Answer(AnswerForm form, Signals signals, std::shared_ptr<StreamBuffers> buffers);
  ~Answer();

  // The handler's end; as in Exchange.
  void respond(int status, std::string_view content_type, std::string body, const Headers& extra);
  void begin_events(const Headers& extra);
  void event(std::string_view data);
  void comment(std::string_view text);
  void end_events();
  void on_close(std::function<void()> closed);
  bool is_open() const;
  void annotate(std::string_view name, std::string_view value);
  // The handler is gone. `error` answers, if nothing has.
  void abandon(std::string_view error_json);

  // The connection's end. What take() gives is to be sent in order.
  enum class Take : uint8_t {
    kMore,    // bytes, or none yet
    kLast,    // bytes, perhaps none, and no more will come
    kCutOff,  // the client left too much unread
    kAborted  // dropped amid events
  };
  Take take(std::string& bytes);
  // As many of the bytes taken have been sent.
  void sent(size_t n_bytes);
  // From now on the connection closes after this answer.
  void end_keep_alive();
  bool keeps_alive() const;
  // Answers in the handler's place, if it has not begun to; within events, sends the error and ends. Gives the function
  // to call.
  std::function<void()> expire(int status, std::string_view error_json);
  // Nothing can be sent any more. Gives the function to call, if there is one.
  std::function<void()> close();
  bool is_cut_off() const;

  // For the record of the request.
  struct Summary {
    int status = 0;
    bool begun = false;
    std::chrono::steady_clock::time_point begun_at = {};
    std::string fields = {};
  };
  Summary summary() const;
  const std::string& request_id() const { return form_.request_id; }

 private:
  enum class Phase : uint8_t {
    kUnanswered,
    kEvents,
    kAnswered,  // in full; perhaps not yet sent
    kCutOff,
    kAborted,
    kClosed,
  };

  void write_head(int status, std::string_view content_type, const Headers& extra, std::string_view framing);
  void respond_locked(int status, std::string_view content_type, std::string body, const Headers& extra);
  void add_to_stream(std::string_view lines);
  bool holds_too_much() const;
  void count_held();
  void wake_locked();
  bool chunked() const { return form_.http_1_1; }

  mutable std::mutex mutex_;
  AnswerForm form_;
  const Signals signals_;
  const std::shared_ptr<StreamBuffers> buffers_;
  Phase phase_ = Phase::kUnanswered;
  bool streaming_ = false;  // the answer is events: framed when they are taken
  bool woken_ = false;
  std::string head_;            // not taken
  std::string body_;            // not taken
  size_t in_flight_bytes_ = 0;  // taken, not sent
  size_t held_bytes_ = 0;       // of both, as counted in buffers_
  std::function<void()> on_close_;
  Summary summary_;
};

}  // namespace spate::http
