// Bytes to a request: the parser of Boost.Beast behind a door, and the rules about framing that it leaves open. Knows
// nothing of sockets, routes and time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http/handler.h"

namespace spate::http {

struct RequestHead {
  std::string method;
  std::string target;  // as sent
  bool http_1_1 = true;
  bool keep_alive = true;
  bool chunked = false;
  bool expects_continue = false;
  std::optional<int64_t> content_length = {};
  Headers headers = {};

  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

// Reads one request.
class RequestReader {
 public:
  RequestReader(int64_t max_header_bytes, int64_t max_body_bytes);
  ~RequestReader();
  RequestReader(RequestReader&&) noexcept;
  RequestReader& operator=(RequestReader&&) noexcept;

  enum class State : uint8_t { kHeader, kBody, kComplete, kFailed };
  State state() const;

  // Takes bytes off the front of what has come in, and returns how many. With 0, and neither complete nor failed, it
  // wants to see the same bytes again with more behind them. Stops behind the header, and behind the body: what follows
  // belongs to the next request.
  size_t feed(std::string_view bytes);

  // From kBody on; a request without a body is kComplete at once.
  const RequestHead& head() const;
  // What has come of the body so far.
  int64_t body_bytes() const;
  // kComplete; once.
  std::string take_body();
  // kFailed: 400, 413, 417, 431, 501 or 505.
  const TransportError& error() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spate::http
