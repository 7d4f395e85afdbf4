// HTTP/1.1 (RFC 9110, 9112) with server-sent events, over TCP or TLS. A few threads carry thousands of connections:
// each is a small state machine, and its callbacks run one at a time. Limits and their answers are those of
// HttpOptions.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.h"
#include "server/http/handler.h"

namespace spate::http {

class HttpServer {
 public:
  // Listens and serves at once. Errors: kIo (the address cannot be had), kUsage (the TLS files are no certificate and
  // its key).
  static Result<std::unique_ptr<HttpServer>> start(const HttpOptions& options, std::vector<Route> routes);
  // As stop().
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

  // Everything below may be called from any thread but the server's own.

  // Ends connections that have been served and where no request is under way, and the others after their answer; new
  // ones are served one request.
  void drain();
  // Waits until no request is under way. False: there was one when the time came.
  bool wait_until_idle(std::chrono::steady_clock::time_point until) const;
  // Requests under way: header read, answer not yet sent.
  int n_requests() const;
  // Closes everything; exchanges still open are told (Exchange::on_close). No handler runs from then on. Exchanges may
  // be kept longer; what is called on them has no effect.
  void stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spate::http
