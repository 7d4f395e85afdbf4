// Sockets, threads and timers for the rest of the transport: Boost.Asio and OpenSSL behind a door. Knows nothing of
// HTTP.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "server/http/handler.h"

namespace spate::http {

// One accepted connection, plain or TLS. Its callbacks run on I/O threads, one at a time and never within the call that
// asked for them. But for post(), its functions are called from these callbacks alone. What a callback holds is let go
// of once it has run, or when close() drops it.
class Socket {
 public:
  virtual ~Socket() = default;

  // Any thread.
  virtual void post(std::function<void()> task) = 0;

  // TLS: the handshake. done(false): it failed.
  virtual void handshake(std::function<void(bool ok)> done) = 0;
  // At least one byte; done(0): the peer has ended, or the connection is broken. One read at a time, beside one write.
  virtual void read_some(std::span<char> into, std::function<void(size_t n_bytes)> done) = 0;
  // done(0): the connection is broken.
  virtual void write_some(std::string_view bytes, std::function<void(size_t n_bytes)> done) = 0;
  // Replaces the one before.
  virtual void set_timer(std::chrono::steady_clock::time_point at, std::function<void()> fire) = 0;
  // Tells the peer that nothing more will come; reading goes on.
  virtual void end_sending() = 0;
  // At once. Drops all callbacks but those of post(). kReset: what the kernel has still to send is dropped too.
  enum class Close : uint8_t { kOrderly, kReset };
  virtual void close(Close how) = 0;

  virtual const std::string& peer_address() const = 0;
};

struct IoOptions {
  std::string host;
  uint16_t port = 0;
  int n_threads = 2;
  int backlog = 1024;
  int send_buffer_bytes = 0;
  std::chrono::milliseconds unacknowledged_time{};  // that a peer may leave data without acknowledgement
  TlsOptions tls = {};
};

// Listens, and runs the callbacks of the sockets that it accepts.
class Io {
 public:
  // Listens at once; on_accept is called on an I/O thread for each connection. Errors: kIo (the address cannot be had),
  // kUsage (the TLS files are no certificate and its key).
  static Result<std::unique_ptr<Io>> listen(const IoOptions& options,
                                            std::function<void(std::shared_ptr<Socket>)> on_accept);
  virtual ~Io() = default;

  virtual uint16_t port() const = 0;
  // Accepts nothing more, and waits until every socket is closed. Not from a callback.
  virtual void stop() = 0;
};

}  // namespace spate::http
