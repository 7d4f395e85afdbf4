// A client that blocks, byte for byte under the test's control.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace spate::testing {

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

// Every wait fails the test after 20 seconds.
class HttpClient {
 public:
  struct Options {
    bool tls = false;              // and trusts any certificate
    int receive_buffer_bytes = 0;  // of the kernel; 0: its default
  };
  explicit HttpClient(uint16_t port) : HttpClient(port, Options()) {}
  HttpClient(uint16_t port, const Options& options);
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;

  // False: the server has closed the connection.
  bool send(std::string_view bytes);
  // Tells the server that nothing more will come.
  void end_sending();
  void close();

  // The next line, without its end; nothing at the end of the connection.
  std::optional<std::string> line();
  // Status line and headers, and no more.
  Response head();
  // A whole answer: by Content-Length, in chunks, or to the end. to_head: the answer has no body.
  Response response(bool to_head = false);
  // The data of the next chunk; empty for the last one, or at the end of the connection.
  std::string chunk();
  std::string read_to_end();
  // True once the server has ended the connection and everything has been read.
  bool at_end();

 private:
  struct Tls;
  bool fill();
  std::string exactly(size_t n_bytes);

  int socket_ = -1;
  std::unique_ptr<Tls> tls_;
  std::string buffer_;
};

// GET by default; POST with JSON where there is a body.
std::string request_text(std::string_view target, std::string_view body = {}, std::string_view headers = {});

}  // namespace spate::testing
