#include "server/http/answer.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/check.h"
#include "server/http/text.h"

namespace spate::http {
namespace {

constexpr std::string_view kJson = "application/json";
constexpr size_t kAlwaysGranted = 64 << 10;  // to an answer, whatever the others hold
constexpr size_t kCopiedBytes = 64 << 10;    // of a body, to be sent at once with what comes before it

// A header's value cannot start another header.
std::string one_line(std::string_view value) {
  std::string line(value);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\r' || c == '\n' || c == '\0'; }, ' ');
  return line;
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(one_line(value)).append("\r\n");
}

// Each line of the text behind the field's name (WHATWG HTML, 9.2.6): CR, LF and CRLF all end a line there.
std::string field_lines(std::string_view field, std::string_view text) {
  std::string lines;
  lines.reserve(field.size() + text.size() + 2);  // of one line, and what ends the event
  for (;;) {
    // Not find_first_of(), which calls memchr() for each byte: of all that a token costs here, that took the most.
    const auto* const found = std::find_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; });
    const auto end = static_cast<size_t>(found - text.begin());
    lines.append(field).append(text.substr(0, end)).append("\n");
    if (end == text.size()) return lines;
    text.remove_prefix(text.substr(end).starts_with("\r\n") ? end + 2 : end + 1);
  }
}

}  // namespace

Answer::Answer(AnswerForm form, Signals signals, std::shared_ptr<StreamBuffers> buffers)
    : form_(std::move(form)), signals_(std::move(signals)), buffers_(std::move(buffers)) {}

Answer::~Answer() {
  buffers_->held_bytes -= static_cast<int64_t>(held_bytes_);
}

void Answer::wake_locked() {
  if (woken_) return;
  woken_ = true;
  signals_.wake();
}

void Answer::write_head(int status, std::string_view content_type, const Headers& extra, std::string_view framing) {
  head_ = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  append_header(head_, "Date", http_date());
  append_header(head_, "X-Request-Id", form_.request_id);
  if (!content_type.empty()) append_header(head_, "Content-Type", content_type);
  for (const Header& header : form_.cors) append_header(head_, header.name, header.value);
  for (const Header& header : extra) append_header(head_, header.name, header.value);
  head_.append(framing);
  if (!form_.keep_alive)
    append_header(head_, "Connection", "close");
  else if (!form_.http_1_1)
    append_header(head_, "Connection", "keep-alive");
  head_.append("\r\n");
  summary_.status = status;
  summary_.begun = true;
  summary_.begun_at = std::chrono::steady_clock::now();
}

void Answer::respond_locked(int status, std::string_view content_type, std::string body, const Headers& extra) {
  const bool has_body = status != 204 && status != 304;
  write_head(status, content_type, extra, has_body ? fmt::format("Content-Length: {}\r\n", body.size()) : "");
  if (has_body && !form_.head_only) body_ = std::move(body);
  phase_ = Phase::kAnswered;
  count_held();
  wake_locked();
}

void Answer::respond(int status, std::string_view content_type, std::string body, const Headers& extra) {
  SPATE_CHECK(status >= 200 && status <= 599, "an answer with status {}", status);
  std::function<void()> dropped;  // outside of the lock: what it holds may call back
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kUnanswered) return;
  dropped = std::exchange(on_close_, nullptr);
  if (body.size() > kAlwaysGranted && buffers_->held_bytes > buffers_->limit_bytes)
    return respond_locked(503, kJson, *form_.overloaded, {{"Retry-After", "1"}});
  respond_locked(status, content_type, std::move(body), extra);
}

void Answer::begin_events(const Headers& extra) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kUnanswered) return;
  Headers headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  headers.insert(headers.end(), extra.begin(), extra.end());
  // HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer.
  if (!chunked()) form_.keep_alive = false;
  write_head(200, "text/event-stream; charset=utf-8", headers, chunked() ? "Transfer-Encoding: chunked\r\n" : "");
  streaming_ = !form_.head_only;
  phase_ = Phase::kEvents;
  wake_locked();
}

void Answer::add_to_stream(std::string_view lines) {
  if (!streaming_) return;
  if (holds_too_much()) {
    phase_ = Phase::kCutOff;
    body_ = {};
    woken_ = false;  // the connection, amid a write, may have been told of earlier lines and look only when that ends
  } else {
    body_.append(lines);
  }
  count_held();
  wake_locked();
}

// Of what came before: a single event, however large, does not cut off a client that reads.
bool Answer::holds_too_much() const {
  const size_t unread = body_.size() + in_flight_bytes_;
  return unread > form_.stream_buffer_bytes ||
         (unread > kAlwaysGranted && buffers_->held_bytes > buffers_->limit_bytes);
}

void Answer::count_held() {
  const size_t now = body_.size() + in_flight_bytes_;
  buffers_->held_bytes += static_cast<int64_t>(now) - static_cast<int64_t>(held_bytes_);
  held_bytes_ = now;
}

void Answer::event(std::string_view data) {
  const std::string lines = field_lines("data: ", data) + "\n";
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kEvents) add_to_stream(lines);
}

void Answer::comment(std::string_view text) {
  const std::string lines = field_lines(": ", text) + "\n";
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kEvents) add_to_stream(lines);
}

void Answer::end_events() {
  std::function<void()> dropped;
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kEvents) return;
  dropped = std::exchange(on_close_, nullptr);
  phase_ = Phase::kAnswered;
  wake_locked();
}

void Answer::on_close(std::function<void()> closed) {
  std::function<void()> dropped;
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kAnswered) {
    dropped = std::move(closed);
  } else if (phase_ == Phase::kClosed) {
    signals_.post(std::move(closed));
  } else {
    dropped = std::exchange(on_close_, std::move(closed));
  }
}

bool Answer::is_open() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kUnanswered || phase_ == Phase::kEvents;
}

void Answer::annotate(std::string_view name, std::string_view value) {
  const std::lock_guard lock(mutex_);
  summary_.fields.append(" ").append(name).append("=").append(value);
}

void Answer::abandon(std::string_view error_json) {
  std::function<void()> dropped;
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kUnanswered) {
    respond_locked(500, kJson, std::string(error_json), {});
  } else if (phase_ == Phase::kEvents) {
    phase_ = Phase::kAborted;
    wake_locked();
  } else {
    return;
  }
  dropped = std::exchange(on_close_, nullptr);
}

Answer::Take Answer::take(std::string& bytes) {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  if (phase_ == Phase::kCutOff) return Take::kCutOff;
  bytes.append(head_);
  head_ = {};
  if (phase_ == Phase::kAnswered && !streaming_ && body_.size() > kCopiedBytes) {
    // A large body is handed over as it is, after what came before it: once the head is sent, this is asked again.
    if (bytes.empty()) {
      bytes.swap(body_);
      in_flight_bytes_ += bytes.size();
      return Take::kLast;
    }
    in_flight_bytes_ += bytes.size();
    return Take::kMore;
  }
  if (!streaming_ || !chunked()) {
    bytes.append(body_);
  } else {
    if (!body_.empty()) bytes.append(fmt::format("{:x}\r\n", body_.size())).append(body_).append("\r\n");
    if (phase_ == Phase::kAnswered) bytes.append("0\r\n\r\n");
  }
  body_.clear();
  in_flight_bytes_ += bytes.size();
  if (phase_ == Phase::kAborted) return Take::kAborted;
  if (phase_ != Phase::kAnswered) return Take::kMore;
  body_ = {};
  return Take::kLast;
}

void Answer::sent(size_t n_bytes) {
  const std::lock_guard lock(mutex_);
  in_flight_bytes_ -= std::min(n_bytes, in_flight_bytes_);
  count_held();
}

void Answer::end_keep_alive() {
  const std::lock_guard lock(mutex_);
  form_.keep_alive = false;
}

bool Answer::keeps_alive() const {
  const std::lock_guard lock(mutex_);
  return form_.keep_alive;
}

std::function<void()> Answer::expire(int status, std::string_view error_json) {
  const std::lock_guard lock(mutex_);
  form_.keep_alive = false;
  if (phase_ == Phase::kUnanswered) {
    respond_locked(status, kJson, std::string(error_json), {});
  } else if (phase_ == Phase::kEvents) {
    body_.append(field_lines("data: ", error_json)).append("\n");
    phase_ = Phase::kAnswered;
    wake_locked();
  }
  return std::exchange(on_close_, nullptr);
}

std::function<void()> Answer::close() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kAnswered) phase_ = Phase::kClosed;
  head_ = {};
  body_ = {};
  in_flight_bytes_ = 0;
  count_held();
  return std::exchange(on_close_, nullptr);
}

bool Answer::is_cut_off() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kCutOff;
}

Answer::Summary Answer::summary() const {
  const std::lock_guard lock(mutex_);
  return summary_;
}

}  // namespace spate::http
