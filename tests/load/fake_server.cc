#include "load/fake_server.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "base/check.h"

namespace spate::testing {

namespace {

// The request, once all of it is there.
bool parse_request(const std::string& received, FakeRequest& request) {
  const size_t head_end = received.find("\r\n\r\n");
  if (head_end == std::string::npos) return false;
  size_t line_end = received.find("\r\n");
  const std::string first = received.substr(0, line_end);
  request.method = first.substr(0, first.find(' '));
  request.target = first.substr(request.method.size() + 1, first.rfind(' ') - request.method.size() - 1);
  while (line_end < head_end) {
    const size_t begin = line_end + 2;
    line_end = received.find("\r\n", begin);
    const std::string line = received.substr(begin, line_end - begin);
    std::string name = line.substr(0, line.find(':'));
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    request.headers[name] = line.substr(std::min(line.find_first_not_of(": ", line.find(':')), line.size()));
  }
  size_t n_body = 0;
  const std::string& length = request.headers["content-length"];
  std::from_chars(length.data(), length.data() + length.size(), n_body);
  if (received.size() < head_end + 4 + n_body) return false;
  request.body = received.substr(head_end + 4, n_body);
  return true;
}

}  // namespace

std::string fake_head(int status, const std::string& type) {
  return fmt::format("HTTP/1.1 {} X\r\nContent-Type: {}\r\nConnection: close\r\n\r\n", status, type);
}

FakeReply fake_completion(int n_tokens, int n_prompt_tokens, bool chat) {
  FakeReply reply{.pieces = {fake_head(200)}};
  for (int i = 0; i < n_tokens; ++i)
    reply.pieces.push_back(chat ? "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"a\"}}]}\n\n"
                                : "data: {\"choices\": [{\"index\": 0, \"text\": \"a\"}]}\n\n");
  reply.pieces.push_back(
      fmt::format("data: {{\"choices\": [], \"usage\": {{\"prompt_tokens\": {}, \"completion_tokens\": {}}}}}\n\n",
                  n_prompt_tokens, n_tokens));
  reply.pieces.emplace_back("data: [DONE]\n\n");
  return reply;
}

FakeServer::FakeServer(std::function<FakeReply(const FakeRequest&)> reply) : reply_(std::move(reply)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  SPATE_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener_, 4096) == 0 &&
                  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
                  pipe2(wake_, O_CLOEXEC) == 0,
              "a server on the loopback: errno {}", errno);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

FakeServer::~FakeServer() {
  close(wake_[1]);
  thread_.join();
  for (const Connection& connection : connections_) close(connection.fd);
  close(wake_[0]);
  close(listener_);
}

std::string FakeServer::url() const {
  return fmt::format("http://127.0.0.1:{}", port_);
}

std::vector<FakeRequest> FakeServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void FakeServer::serve() {
  for (;;) {
    std::vector<pollfd> watched = {{.fd = wake_[0], .events = POLLIN, .revents = 0},
                                   {.fd = listener_, .events = POLLIN, .revents = 0}};
    for (const Connection& connection : connections_)
      watched.push_back({.fd = connection.fd, .events = POLLIN, .revents = 0});
    poll(watched.data(), watched.size(), -1);
    if (watched[0].revents != 0) return;
    for (size_t i = 0; i < connections_.size(); ++i)
      if (watched[i + 2].revents != 0 && !read_from(connections_[i])) close(std::exchange(connections_[i].fd, -1));
    reply_to_waiting();
    std::erase_if(connections_, [](const Connection& connection) { return connection.fd < 0; });
    if (watched[1].revents != 0) accept_one();
  }
}

void FakeServer::accept_one() {
  const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) connections_.push_back({.fd = fd, .received = {}, .reply = {}});
}

bool FakeServer::read_from(Connection& connection) {
  char buffer[65536];
  const ssize_t n = recv(connection.fd, buffer, sizeof buffer, 0);
  if (n <= 0) return false;
  connection.received.append(buffer, static_cast<size_t>(n));
  FakeRequest request;
  if (connection.replied || connection.waiting || !parse_request(connection.received, request)) return true;
  connection.reply = reply_(request);
  connection.waiting = true;
  const std::lock_guard lock(mutex_);
  requests_.push_back(std::move(request));
  return true;
}

void FakeServer::reply_to_waiting() {
  const auto n_waiting = static_cast<size_t>(
      std::count_if(connections_.begin(), connections_.end(), [](const Connection& c) { return c.waiting; }));
  for (Connection& connection : connections_)
    if (connection.waiting && n_waiting >= connection.reply.wait_for) send_reply(connection);
}

void FakeServer::send_reply(Connection& connection) {
  connection.waiting = false;
  connection.replied = true;
  for (const std::string& piece : connection.reply.pieces)
    for (size_t at = 0; at < piece.size();) {
      const ssize_t n = send(connection.fd, piece.data() + at, piece.size() - at, MSG_NOSIGNAL);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
  if (!connection.reply.stay_open) close(std::exchange(connection.fd, -1));
}

}  // namespace spate::testing
