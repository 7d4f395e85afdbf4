#include "server/http/io.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <netinet/tcp.h>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "server/http/signal_block.h"

namespace spate::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Strand = asio::strand<asio::io_context::executor_type>;
using TcpSocket = asio::basic_stream_socket<tcp, Strand>;

// Sockets live in callbacks, and both may outlive the Io for a moment: each holds the context.
struct Context {
  asio::io_context io;
  std::optional<asio::ssl::context> tls;
};

constexpr uint64_t kMaxPemBytes = 1 << 20;

template <typename Option>
void try_option(TcpSocket& socket, const Option& option) {
  ErrorCode ignored;  // a connection that has broken meanwhile will say so when it is used
  socket.set_option(option, ignored);
}

// The kernel counts a window that stays closed as data without acknowledgement, and looks whether it has opened at
// intervals that double: a client that reads slowly through a small buffer seems to take nothing for several times as
// long as it does. What is to end are peers that vanished; Connection sees to those that take nothing.
constexpr int kClosedWindowFactor = 4;

void set_options(TcpSocket& socket, const IoOptions& options) {
  try_option(socket, tcp::no_delay(true));
  if (options.send_buffer_bytes > 0) try_option(socket, asio::socket_base::send_buffer_size(options.send_buffer_bytes));
  // A peer that vanished without a word is found out, whether something is being sent or not.
  using Integer = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_USER_TIMEOUT>;
  using KeepIdle = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPIDLE>;
  using KeepInterval = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPINTVL>;
  try_option(socket, Integer(kClosedWindowFactor * static_cast<int>(options.unacknowledged_time.count())));
  try_option(socket, asio::socket_base::keep_alive(true));
  try_option(socket, KeepIdle(30));
  try_option(socket, KeepInterval(10));
}

// Layer: TcpSocket, or a TLS stream over one.
template <typename Layer>
class SocketOn final : public Socket, public std::enable_shared_from_this<SocketOn<Layer>> {
 public:
  static constexpr bool kTls = !std::is_same_v<Layer, TcpSocket>;

  template <typename... Tls>
  SocketOn(std::shared_ptr<Context> context, TcpSocket socket, std::string peer, Tls&... tls)
      : context_(std::move(context)),
        strand_(socket.get_executor()),
        layer_(std::move(socket), tls...),
        timer_(strand_),
        peer_(std::move(peer)) {}

  void post(std::function<void()> task) override { asio::post(strand_, std::move(task)); }

  void handshake(std::function<void(bool)> done) override {
    if constexpr (kTls) {
      layer_.async_handshake(asio::ssl::stream_base::server,
                             [self = this->shared_from_this(), done = std::move(done)](const ErrorCode& error) {
                               if (!self->closed_) done(!error);
                             });
    } else {
      post([self = this->shared_from_this(), done = std::move(done)] {
        if (!self->closed_) done(true);
      });
    }
  }

  void read_some(std::span<char> into, std::function<void(size_t)> done) override {
    layer_.async_read_some(asio::buffer(into.data(), into.size()), transferred(std::move(done)));
  }

  void write_some(std::string_view bytes, std::function<void(size_t)> done) override {
    layer_.async_write_some(asio::buffer(bytes.data(), bytes.size()), transferred(std::move(done)));
  }

  void set_timer(std::chrono::steady_clock::time_point at, std::function<void()> fire) override {
    timer_.expires_at(at);
    timer_.async_wait([self = this->shared_from_this(), fire = std::move(fire)](const ErrorCode& error) {
      if (!error && !self->closed_) fire();
    });
  }

  void end_sending() override {
    if constexpr (kTls) {
      layer_.async_shutdown([self = this->shared_from_this()](const ErrorCode&) {});
    } else {
      ErrorCode ignored;
      layer_.shutdown(tcp::socket::shutdown_send, ignored);
    }
  }

  void close(Close how) override {
    closed_ = true;
    timer_.cancel();
    ErrorCode ignored;
    if (how == Close::kReset) layer_.lowest_layer().set_option(asio::socket_base::linger(true, 0), ignored);
    layer_.lowest_layer().close(ignored);
  }

  const std::string& peer_address() const override { return peer_; }

 private:
  auto transferred(std::function<void(size_t)> done) {
    return [self = this->shared_from_this(), done = std::move(done)](const ErrorCode& error, size_t n_bytes) {
      if (!self->closed_) done(error ? 0 : n_bytes);
    };
  }

  std::shared_ptr<Context> context_;  // first: the others are of it
  Strand strand_;
  Layer layer_;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Strand> timer_;
  std::string peer_;
  bool closed_ = false;
};

class AsioIo final : public Io {
 public:
  AsioIo(IoOptions options, std::function<void(std::shared_ptr<Socket>)> on_accept)
      : options_(std::move(options)),
        on_accept_(std::move(on_accept)),
        context_(std::make_shared<Context>()),
        acceptor_(asio::make_strand(context_->io)),
        retry_(acceptor_.get_executor()) {}

  ~AsioIo() override { stop(); }

  Result<void> start() {
    SPATE_TRY_VOID(set_up_tls());
    SPATE_TRY_VOID(bind());
    accept_next();
    const SignalBlock block;
    for (int i = 0; i < options_.n_threads; ++i) threads_.emplace_back([context = context_] { context->io.run(); });
    return {};
  }

  uint16_t port() const override { return port_; }

  void stop() override {
    asio::post(acceptor_.get_executor(), [this] {
      ErrorCode ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    for (std::thread& thread : threads_)
      if (thread.joinable()) thread.join();
  }

 private:
  Result<void> set_up_tls() {
    const auto& [certificate, key] = options_.tls;
    if (certificate.empty() && key.empty()) return {};
    if (certificate.empty() || key.empty()) return Error::usage("TLS takes a certificate and its key, both");
    SPATE_TRY(const std::string certificate_pem, read_file(certificate, kMaxPemBytes));
    SPATE_TRY(const std::string key_pem, read_file(key, kMaxPemBytes));
    asio::ssl::context& tls = context_->tls.emplace(asio::ssl::context::tls_server);
    ErrorCode error;
    tls.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                        asio::ssl::context::no_tlsv1_1 | asio::ssl::context::single_dh_use,
                    error);
    tls.set_password_callback([](size_t, asio::ssl::context::password_purpose) { return std::string(); }, error);
    // The key first: behind another's certificate, OpenSSL would refuse it as it does one that it cannot read.
    tls.use_private_key(asio::buffer(key_pem), asio::ssl::context::pem, error);
    if (error)
      return Error::bad_file(key, fmt::format("no private key in PEM without a passphrase: {}", error.message()));
    tls.use_certificate_chain(asio::buffer(certificate_pem), error);
    if (error) return Error::bad_file(certificate, fmt::format("no certificate in PEM: {}", error.message()));
    if (SSL_CTX_check_private_key(tls.native_handle()) != 1)
      return Error::usage(fmt::format("{}: not the key of the certificate {}", key, certificate));
    SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);  // 34 KB less for a stream that sleeps
    return {};
  }

  Result<void> bind() {
    const std::string where = fmt::format("{}:{}", options_.host, options_.port);
    ErrorCode error;
    const auto found = tcp::resolver(context_->io)
                           .resolve(options_.host, std::to_string(options_.port),
                                    tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error || found.empty()) return Error::io(where, fmt::format("no address to listen on: {}", error.message()));
    tcp::endpoint endpoint = found.begin()->endpoint();
    for (const auto& each : found)  // of a name with several addresses, what clients try in the end in any case
      if (each.endpoint().address().is_v4()) {
        endpoint = each.endpoint();
        break;
      }
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(options_.backlog, error);
    if (error) return Error::io(where, fmt::format("cannot be listened on: {}", error.message()));
    port_ = acceptor_.local_endpoint().port();
    return {};
  }

  void accept_next() {
    acceptor_.async_accept(asio::make_strand(context_->io), [this](const ErrorCode& error, TcpSocket socket) {
      if (!acceptor_.is_open()) return;
      if (error) return accept_later(error);
      take(std::move(socket));
      accept_next();
    });
  }

  // Out of file descriptors, most likely: those in use come back with time.
  void accept_later(const ErrorCode& error) {
    if (error != asio::error::connection_aborted) log::warn("a connection was not accepted: {}", error.message());
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait([this](const ErrorCode& cancelled) {
      if (!cancelled && acceptor_.is_open()) accept_next();
    });
  }

  void take(TcpSocket socket) {
    ErrorCode error;
    const tcp::endpoint peer = socket.remote_endpoint(error);
    if (error) return;  // it has gone already
    set_options(socket, options_);
    std::string address = peer.address().to_string();
    const Strand strand = socket.get_executor();
    std::shared_ptr<Socket> made;
    if (context_->tls)
      made = std::make_shared<SocketOn<asio::ssl::stream<TcpSocket>>>(context_, std::move(socket), std::move(address),
                                                                      *context_->tls);
    else
      made = std::make_shared<SocketOn<TcpSocket>>(context_, std::move(socket), std::move(address));
    asio::post(strand, [this, made = std::move(made)]() mutable { on_accept_(std::move(made)); });
  }

  const IoOptions options_;
  const std::function<void(std::shared_ptr<Socket>)> on_accept_;
  const std::shared_ptr<Context> context_;
  asio::basic_socket_acceptor<tcp, Strand> acceptor_;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Strand> retry_;
  uint16_t port_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<Io>> Io::listen(const IoOptions& options,
                                       std::function<void(std::shared_ptr<Socket>)> on_accept) {
  auto io = std::make_unique<AsioIo>(options, std::move(on_accept));
  SPATE_TRY_VOID(io->start());
  return std::unique_ptr<Io>(std::move(io));
}

}  // namespace spate::http
