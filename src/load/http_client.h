// POST requests to one server, thousands at a time on one thread, each over a connection of its own. The only header
// here behind which there is a network; Boost's are in its source file alone.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

#include "load/url.h"

namespace spate::load {

using Clock = std::chrono::steady_clock;

struct HttpClientOptions {
  bool verify = true;        // of TLS: the server's certificate must be good for its name
  std::string ca_file = {};  // certificates to trust, PEM; empty: the system's
};

struct HttpPost {
  std::string target, body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // besides Host, Content-Length and the like
  std::chrono::duration<double> timeout{300};                     // for all of it
};

enum class HttpFailure { kConnect, kTimeout, kBroken };

// What happens with a request, in this order: on_head once, on_body any number of times, on_end once. A failure may
// come at any point.
class ResponseReader {
 public:
  virtual ~ResponseReader() = default;
  virtual void on_head(int status) = 0;
  // False: enough, the connection is closed.
  virtual bool on_body(std::string_view piece) = 0;
  // Without a failure: the response is complete, or on_body had enough. what: the failure in the system's words.
  virtual void on_end(std::optional<HttpFailure> failure, std::string_view what) = 0;
};

class HttpClient {
 public:
  // Error kIo: the host's name has no address, the file cannot be read; kBadFile: it holds no certificates.
  static Result<std::unique_ptr<HttpClient>> create(const Url& url, const HttpClientOptions& options);
  virtual ~HttpClient() = default;

  // Begins a request; the reader is called from run().
  virtual void post(HttpPost post, std::shared_ptr<ResponseReader> reader) = 0;
  // Calls fn from run() at that time.
  virtual void at(Clock::time_point time, std::function<void()> fn) = 0;
  // Until nothing is left to do, or stop(). May be called again, and then goes on.
  virtual void run() = 0;
  virtual void stop() = 0;
};

}  // namespace spate::load
