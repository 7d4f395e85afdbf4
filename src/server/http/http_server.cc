#include "server/http/http_server.h"

#include <utility>

#include "base/check.h"
#include "server/http/connection.h"
#include "server/http/io.h"
#include "server/http/shared_state.h"

namespace spate::http {

struct HttpServer::Impl {
  explicit Impl(const HttpOptions& options, std::vector<Route> routes) : shared(options, std::move(routes)) {}

  SharedState shared;
  std::unique_ptr<Io> io;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  stop();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpOptions& options, std::vector<Route> routes) {
  SPATE_CHECK(options.error_body != nullptr && options.n_io_threads > 0 && options.n_workers > 0);
  auto impl = std::make_unique<Impl>(options, std::move(routes));
  SharedState& shared = impl->shared;
  const auto on_accept = [&shared](std::shared_ptr<Socket> socket) {
    std::make_shared<Connection>(std::move(socket), shared)->start();
  };
  SPATE_TRY(impl->io, Io::listen({.host = options.host,
                                  .port = options.port,
                                  .n_threads = options.n_io_threads,
                                  .backlog = options.backlog,
                                  .send_buffer_bytes = options.send_buffer_bytes,
                                  .unacknowledged_time = options.write_time,
                                  .tls = options.tls},
                                 on_accept));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

uint16_t HttpServer::port() const {
  return impl_->io->port();
}

void HttpServer::drain() {
  impl_->shared.draining = true;
  for (const auto& connection : impl_->shared.connections()) connection->drain();
}

bool HttpServer::wait_until_idle(std::chrono::steady_clock::time_point until) const {
  return impl_->shared.wait_until_idle(until);
}

int HttpServer::n_requests() const {
  return impl_->shared.n_exchanges();
}

void HttpServer::stop() {
  impl_->shared.stop_admitting();
  impl_->shared.workers.stop();  // first: what a handler asks for may need an I/O thread
  for (const auto& connection : impl_->shared.connections()) connection->abort();
  impl_->io->stop();
}

}  // namespace spate::http
