// Which names a server answers to. A page that a browser has from elsewhere can have its name point to this machine
// (DNS rebinding), and is then of the server's own origin for the browser: only the Host header, which has the page's
// name, tells it from those who mean this server.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/handler.h"

namespace spate::http {

class HostCheck {
 public:
  // Where HttpOptions::allowed_hosts has names, and on a loopback address without keys, hosts are checked.
  explicit HostCheck(const HttpOptions& options);

  // host: a Host header's value. Names and addresses of this machine alone (is_loopback()) are accepted always.
  bool accepts(std::string_view host) const;

 private:
  bool accepts_all_;
  std::vector<std::string> allowed_;
};

}  // namespace spate::http
