#include "load/http_client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "base/file.h"

namespace spate::load {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Addresses = asio::ip::tcp::resolver::results_type;

struct Server {
  Url url;
  Addresses addresses;
};

// One request and its response, alive while the network is to do something for it. Stream: a beast::tcp_stream, or TLS
// over one.
template <typename Stream>
class Exchange : public std::enable_shared_from_this<Exchange<Stream>> {
 public:
  Exchange(Stream stream, const Server& server, HttpPost post, std::shared_ptr<ResponseReader> reader)
      : stream_(std::move(stream)), server_(server), reader_(std::move(reader)), timeout_(post.timeout) {
    request_.method(http::verb::post);
    request_.target(post.target);
    request_.set(http::field::host, server.url.authority());
    request_.set(http::field::content_type, "application/json");
    request_.set(http::field::connection, "close");
    for (const auto& [name, value] : post.headers) request_.set(name, value);
    request_.body() = std::move(post.body);
    request_.prepare_payload();
    parser_.body_limit(boost::none);
  }

  void start() {
    // One deadline for all that follows.
    tcp().expires_after(std::chrono::duration_cast<Clock::duration>(timeout_));
    tcp().async_connect(server_.addresses, [self = this->shared_from_this()](error_code error, const auto&) {
      if (error)
        return self->end(error == beast::error::timeout ? HttpFailure::kTimeout : HttpFailure::kConnect, error);
      error_code ignored;
      self->tcp().socket().set_option(asio::ip::tcp::no_delay(true), ignored);
      self->connected();
    });
  }

 private:
  beast::tcp_stream& tcp() { return beast::get_lowest_layer(stream_); }

  void connected() {
    if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
      write();
    } else {
      error_code is_name;
      asio::ip::make_address(server_.url.host, is_name);
      if (is_name) SSL_set_tlsext_host_name(stream_.native_handle(), server_.url.host.c_str());
      stream_.set_verify_callback(asio::ssl::host_name_verification(server_.url.host));
      stream_.async_handshake(asio::ssl::stream_base::client, [self = this->shared_from_this()](error_code error) {
        if (error)
          return self->end(error == beast::error::timeout ? HttpFailure::kTimeout : HttpFailure::kConnect, error);
        self->write();
      });
    }
  }

  void write() {
    http::async_write(stream_, request_, [self = this->shared_from_this()](error_code error, size_t) {
      // A server that refuses may answer before it has read everything, and close: the answer tells more.
      if (error == beast::error::timeout) return self->broken(error);
      self->read_head();
    });
  }

  void read_head() {
    http::async_read_header(stream_, buffer_, parser_, [self = this->shared_from_this()](error_code error, size_t) {
      if (error) return self->broken(error);
      self->reader_->on_head(static_cast<int>(self->parser_.get().result_int()));
      self->take_body();
    });
  }

  void read_some() {
    http::async_read_some(stream_, buffer_, parser_, [self = this->shared_from_this()](error_code error, size_t) {
      if (error) {
        if (!self->pass_on()) return;
        return self->broken(error);
      }
      self->take_body();
    });
  }

  void take_body() {
    if (!pass_on()) return;
    if (parser_.is_done()) return end(std::nullopt, {});
    read_some();
  }

  // False: it has ended.
  bool pass_on() {
    std::string& body = parser_.get().body();
    if (!body.empty() && !reader_->on_body(body)) {
      end(std::nullopt, {});
      return false;
    }
    body.clear();
    return true;
  }

  void broken(error_code error) {
    end(error == beast::error::timeout ? HttpFailure::kTimeout : HttpFailure::kBroken, error);
  }

  void end(std::optional<HttpFailure> failure, error_code error) {
    error_code ignored;
    tcp().socket().close(ignored);
    reader_->on_end(failure, error ? error.message() : std::string());
  }

  Stream stream_;
  const Server& server_;
  const std::shared_ptr<ResponseReader> reader_;
  const std::chrono::duration<double> timeout_;
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
};

class AsioClient final : public HttpClient {
 public:
  explicit AsioClient(const Url& url) : server_{.url = url, .addresses = {}} {}

  Result<void> set_up(const HttpClientOptions& options) {
    error_code error;
    asio::ip::tcp::resolver resolver(context_);
    server_.addresses = resolver.resolve(server_.url.host, server_.url.port, error);
    if (error) return Error::io(server_.url.host, fmt::format("the name has no address: {}", error.message()));
    if (!server_.url.tls) return {};
    tls_.emplace(asio::ssl::context::tls_client);
    tls_->set_verify_mode(options.verify ? asio::ssl::verify_peer : asio::ssl::verify_none);
    if (options.ca_file.empty()) {
      tls_->set_default_verify_paths(error);
      if (error) return Error::io("the system's certificates", error.message());
      return {};
    }
    SPATE_TRY(const std::string certificates, read_file(options.ca_file));
    tls_->add_certificate_authority(asio::buffer(certificates), error);
    if (error) return Error::bad_file(options.ca_file, fmt::format("no certificates in PEM: {}", error.message()));
    return {};
  }

  void post(HttpPost post, std::shared_ptr<ResponseReader> reader) override {
    using TlsStream = asio::ssl::stream<beast::tcp_stream>;
    if (tls_) {
      TlsStream stream(beast::tcp_stream(context_), *tls_);
      std::make_shared<Exchange<TlsStream>>(std::move(stream), server_, std::move(post), std::move(reader))->start();
      return;
    }
    using Plain = Exchange<beast::tcp_stream>;
    std::make_shared<Plain>(beast::tcp_stream(context_), server_, std::move(post), std::move(reader))->start();
  }

  void at(Clock::time_point time, std::function<void()> fn) override {
    const auto timer = std::make_shared<asio::steady_timer>(context_, time);
    timer->async_wait([timer, fn = std::move(fn)](error_code error) {
      if (!error) fn();
    });
  }

  void run() override {
    context_.restart();
    context_.run();
  }
  void stop() override { context_.stop(); }

 private:
  std::optional<asio::ssl::context> tls_;
  Server server_;
  asio::io_context context_{1};  // destroyed first: what it still holds refers to the others
};

}  // namespace

Result<std::unique_ptr<HttpClient>> HttpClient::create(const Url& url, const HttpClientOptions& options) {
  auto client = std::make_unique<AsioClient>(url);
  SPATE_TRY_VOID(client->set_up(options));
  return std::unique_ptr<HttpClient>(std::move(client));
}

}  // namespace spate::load
