#include "server/http/http_client.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace spate::testing {

struct HttpClient::Tls {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* session = SSL_new(context);
  ~Tls() {
    SSL_free(session);
    SSL_CTX_free(context);
  }
};

HttpClient::HttpClient(uint16_t port, const Options& options) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (options.receive_buffer_bytes > 0)
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer_bytes, sizeof(int));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connected = ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  EXPECT_EQ(connected, 0) << std::strerror(errno);
  if (!options.tls) return;
  tls_ = std::make_unique<Tls>();
  SSL_set_fd(tls_->session, socket_);
  EXPECT_EQ(SSL_connect(tls_->session), 1);
}

HttpClient::HttpClient(HttpClient&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), tls_(std::move(other.tls_)), buffer_(std::move(other.buffer_)) {}

HttpClient::~HttpClient() {
  close();
}

void HttpClient::close() {
  tls_.reset();
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void HttpClient::end_sending() {
  ::shutdown(socket_, SHUT_WR);
}

bool HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = tls_ ? SSL_write(tls_->session, bytes.data(), static_cast<int>(bytes.size()))
                           : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      EXPECT_NE(errno, EAGAIN) << "the server takes nothing";
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool HttpClient::fill() {
  char bytes[16384];
  const ssize_t n = tls_ ? SSL_read(tls_->session, bytes, sizeof bytes) : ::recv(socket_, bytes, sizeof bytes, 0);
  if (n <= 0) {
    EXPECT_FALSE(!tls_ && n < 0 && errno == EAGAIN) << "the server says nothing";
    return false;
  }
  buffer_.append(bytes, static_cast<size_t>(n));
  return true;
}

std::optional<std::string> HttpClient::line() {
  size_t end;
  while ((end = buffer_.find('\n')) == std::string::npos)
    if (!fill()) return std::nullopt;
  std::string text = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

Response HttpClient::head() {
  Response response;
  const std::optional<std::string> status = line();
  if (!status) {
    ADD_FAILURE() << "the connection ended before an answer";
    return response;
  }
  EXPECT_TRUE(status->starts_with("HTTP/1.1 ")) << *status;
  response.status = std::atoi(status->c_str() + 9);
  while (const std::optional<std::string> text = line()) {
    if (text->empty()) break;
    const size_t colon = text->find(": ");
    EXPECT_NE(colon, std::string::npos) << *text;
    if (colon == std::string::npos) break;
    std::string name = text->substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    EXPECT_FALSE(response.headers.contains(name)) << name << " twice";
    response.headers[name] = text->substr(colon + 2);
  }
  return response;
}

std::string HttpClient::exactly(size_t n_bytes) {
  while (buffer_.size() < n_bytes)
    if (!fill()) {
      ADD_FAILURE() << "the connection ended amid a body";
      break;
    }
  std::string bytes = buffer_.substr(0, n_bytes);
  buffer_.erase(0, n_bytes);
  return bytes;
}

std::string HttpClient::chunk() {
  const std::optional<std::string> size = line();
  if (!size) return {};
  std::string data = exactly(std::strtoul(size->c_str(), nullptr, 16));
  EXPECT_EQ(line(), "");
  return data;
}

std::string HttpClient::read_to_end() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

bool HttpClient::at_end() {
  return buffer_.empty() && !fill();
}

Response HttpClient::response(bool to_head) {
  Response response = head();
  if (to_head || response.status == 204 || response.status == 304 || response.status / 100 == 1) return response;
  if (const std::string length = response.header("content-length"); !length.empty()) {
    response.body = exactly(std::stoul(length));
  } else if (response.header("transfer-encoding") == "chunked") {
    for (std::string data = chunk(); !data.empty(); data = chunk()) response.body += data;
  } else {
    response.body = read_to_end();
  }
  return response;
}

std::string request_text(std::string_view target, std::string_view body, std::string_view headers) {
  if (body.empty()) return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", target, headers);
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{}", target,
      body.size(), headers, body);
}

}  // namespace spate::testing
