// A server of the OpenAI API's streams for tests: real sockets, one thread, answers that the test makes up.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace spate::testing {

struct FakeRequest {
  std::string method, target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

// The bytes of a reply, sent piece by piece; then the connection is closed.
struct FakeReply {
  std::vector<std::string> pieces;
  size_t wait_for = 0;     // replied to only once so many requests are waiting for their replies at the same time
  bool stay_open = false;  // nothing is closed: the client has to give up
};

// The head of a reply whose body, of any length, ends with the connection.
std::string fake_head(int status, const std::string& type = "text/event-stream");
// The reply to a completion of n tokens, an event each, with usage: {prompt, n}.
FakeReply fake_completion(int n_tokens, int n_prompt_tokens, bool chat = false);

class FakeServer {
 public:
  explicit FakeServer(std::function<FakeReply(const FakeRequest&)> reply);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // http://127.0.0.1:PORT
  std::string url() const;
  uint16_t port() const { return port_; }
  // Those that have come whole, by now.
  std::vector<FakeRequest> requests() const;

 private:
  struct Connection {
    int fd;
    std::string received;
    bool replied = false;
    bool waiting = false;
    FakeReply reply;
  };
  void serve();
  void accept_one();
  // False: the connection is over.
  bool read_from(Connection& connection);
  void reply_to_waiting();
  void send_reply(Connection& connection);

  const std::function<FakeReply(const FakeRequest&)> reply_;
  int listener_ = -1;
  int wake_[2] = {-1, -1};  // a pipe: closed to end the thread
  uint16_t port_ = 0;
  std::vector<Connection> connections_;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace spate::testing
