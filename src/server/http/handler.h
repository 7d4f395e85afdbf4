// What an endpoint sees of HTTP: a request, the exchange that it answers through, and the row that puts it on a path.
// Nothing here knows of sockets; http/http_server.h does.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spate::http {

struct Header {
  std::string name;
  std::string value;
};
using Headers = std::vector<Header>;

struct HttpRequest {
  std::string method;     // "GET", "POST" ...; HEAD reaches the rows of GET, and its answer loses its body on the way
  std::string path;       // percent-decoded UTF-8, from "/", without the query
  std::string path_rest;  // what the trailing "*" of the route stands for; empty where it has none
  Headers query;          // names and values, percent-decoded, in order
  Headers headers;        // in order, values trimmed; "authorization" is not among them
  std::string body;       // empty where the route takes none
  std::string id;      // [A-Za-z0-9._-]{1,128}: the client's X-Request-Id, or one made here; sent back with the answer
  int key_index = -1;  // which of HttpOptions::api_keys the client showed; -1: open route, or no keys are asked for
  std::string peer_address;                           // of the other end of the connection, without the port
  std::chrono::steady_clock::time_point received_at;  // its first byte

  // The first header of that name, whatever its case; null where there is none.
  const std::string* header(std::string_view name) const;
  // The first query parameter of that name; null where there is none.
  const std::string* query_value(std::string_view name) const;
};

// One request and the answer to it. Every function may be called from any thread, and none waits for the network. An
// answer is either one respond(), or begin_events(), then event() and comment(), then end_events(). What is called
// after the answer has ended, or after the client went, does nothing. An exchange that is dropped with no answer is
// answered 500, one dropped amid events is cut off.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Valid as long as this lives. Constant, but for release_body().
  virtual const HttpRequest& request() const = 0;
  // Frees the body's memory, for answers that take minutes. Whoever reads the body calls it, when done.
  virtual void release_body() = 0;

  // The whole answer. status: 200 to 599. content_type may be empty where the body is. Content-Length, Date,
  // X-Request-Id and what CORS needs are added.
  virtual void respond(int status, std::string_view content_type, std::string body, Headers extra = {}) = 0;

  // Answers 200 with server-sent events (WHATWG HTML, 9.2), no-cache and unbuffered. From here on the transport sends
  // ": ping" whenever nothing else has been sent for HttpOptions::ping_time.
  virtual void begin_events(Headers extra = {}) = 0;
  // One event. A line break in the data starts another "data:" line of it, as the format wants. A client that leaves
  // more than HttpOptions::stream_buffer_bytes unread is cut off.
  virtual void event(std::string_view data) = 0;
  // A line that clients ignore.
  virtual void comment(std::string_view text) = 0;
  virtual void end_events() = 0;

  // Called once, on an I/O thread, if the client goes or is cut off before the answer has been handed over in full (by
  // respond() or end_events()): also when that was so already. Never called after the answer. The function is dropped,
  // with all that it holds, when the answer is complete: so it may hold the exchange itself. One function an exchange.
  virtual void on_close(std::function<void()> closed) = 0;
  // False once the answer has ended or the client has gone: what is still to be computed is of no use.
  virtual bool is_open() const = 0;

  // Adds a field to the line that the log gets about this request. Never a prompt, a completion or a key.
  virtual void annotate(std::string_view name, std::string_view value) = 0;
  virtual void annotate(std::string_view name, int64_t value) = 0;
  virtual void annotate(std::string_view name, double value) = 0;
};

// Called once a request with its body is complete. What it throws is answered 500. It may keep the exchange, and answer
// later from any thread.
using Handler = std::function<void(std::shared_ptr<Exchange>)>;

enum class Access : uint8_t {
  kOpen,  // anyone
  kKey,   // who shows one of HttpOptions::api_keys, if there are any
};

enum class Body : uint8_t {
  kNone,  // there should be none, and one that is sent is not read
  kJson,  // Content-Type application/json, or +json, else 415; at most HttpOptions::max_body_bytes, else 413
};

// Where a handler runs.
enum class RunOn : uint8_t {
  kIo,      // on an I/O thread, that others' streams wait for: microseconds of work, no lock that is held for long
  kWorker,  // on one of HttpOptions::n_workers: templates, tokenising, large JSON
};

struct Route {
  std::string method;  // "*": any
  std::string path;    // as it is, or a prefix with "*" as its last character; the first row that fits wins
  Handler handler;
  Access access = Access::kKey;
  Body body = Body::kNone;
  RunOn run_on = RunOn::kIo;
};

// An error that the transport finds, before or instead of a handler.
struct TransportError {
  int status = 500;
  std::string_view code;     // a word for programs: "not_found", "payload_too_large" ...
  std::string_view message;  // one line
};

// What is told of a request when it is over, for logs and metrics.
struct RequestRecord {
  enum class Outcome : uint8_t {
    kComplete,    // the answer went out in full
    kClientGone,  // the client closed the connection before
    kCutOff,      // it read too slowly, or not at all
    kTimedOut,    // HttpOptions::total_time
    kAborted,     // the handler dropped the exchange, the client sent too much ahead, or the server ended
  };
  std::string_view id;
  std::string_view method;
  std::string_view route;  // Route::path; "" where none fitted
  std::string_view peer_address;
  int status = 0;  // 0: none was sent
  Outcome outcome = Outcome::kComplete;
  int64_t request_bytes = 0;  // of the body
  int64_t answer_bytes = 0;   // as sent, headers included
  double first_byte_seconds =
      0;  // from the request's first byte to the first byte of the answer handed over; 0: none was
  double total_seconds = 0;
  std::string_view fields;  // what the handler annotated: " name=value" each
};
std::string_view outcome_name(RequestRecord::Outcome outcome);

struct TlsOptions {
  std::string certificate_file;  // PEM: the server's certificate, then those between it and the root
  std::string key_file;          // PEM, without a passphrase
};

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address or a name
  uint16_t port = 8080;            // 0: a free one
  int n_io_threads = 2;
  int n_workers = 2;
  int max_worker_queue = 4096;  // requests that wait for a worker, and a 64th of it with large bodies; beyond: 503
  int backlog = 1024;           // connections that the kernel keeps until they are accepted

  std::vector<std::string> api_keys;      // none: no route asks for one
  std::vector<std::string> cors_origins;  // that a browser may call from, as in Origin; "*": any; none: CORS is off
  // That clients may call the server by in Host, besides loopback ones; "*": any. None: on a loopback address without
  // keys loopback ones alone, elsewhere any. Others: 403.
  std::vector<std::string> allowed_hosts;
  TlsOptions tls;  // both files empty: plain HTTP

  // Beyond: 431. A client that sends this and 64 KiB ahead of the answer under way is closed.
  int64_t max_header_bytes = 16 << 10;
  int64_t max_body_bytes = 16 << 20;      // beyond: 413
  int64_t max_bodies_bytes = 256 << 20;   // of all bodies held at once; beyond: 503
  int max_connections = 8192;             // beyond: 503, and closed
  int64_t stream_buffer_bytes = 1 << 20;  // events that a client has not taken; beyond: it is cut off
  int64_t stream_buffers_bytes =
      64 << 20;  // of all answers; beyond: 503 for more than 64 KiB, streams with as much are cut off
  int send_buffer_bytes = 64 << 10;  // the kernel's, of a connection

  std::chrono::milliseconds header_time{
      10'000};                                  // from the first byte of a request (or of TLS) to the end of its header
  std::chrono::milliseconds body_time{60'000};  // from there to the end of its body; beyond either: 408
  std::chrono::milliseconds total_time{
      3'600'000};                                // from there to the end of the answer; beyond: 504, or an error event
  std::chrono::milliseconds idle_time{75'000};   // between requests, and before the first
  std::chrono::milliseconds write_time{30'000};  // that a client may take none of what is to be sent
  std::chrono::milliseconds ping_time{15'000};   // 0: no pings

  // Makes the JSON that answers an error, and the data of an error event. Required.
  std::function<std::string(const TransportError&)> error_body;
  // Called on an I/O thread for each request that is over.
  std::function<void(const RequestRecord&)> on_finished;
};

}  // namespace spate::http
