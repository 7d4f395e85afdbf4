#include "load/url.h"

#include <algorithm>
#include <charconv>

namespace spate::load {

namespace {

constexpr std::string_view kVersion = "/v1";

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

// Nothing that could end the line of a request, or begin something else than a path.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; }) &&
         text.find_first_of("?#@\\\"<>") == std::string_view::npos;
}

}  // namespace

std::string Url::authority() const {
  const std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? "443" : "80") ? name : name + ":" + port;
}

std::string Url::target(std::string_view endpoint) const {
  if (path.ends_with(kVersion) && endpoint.starts_with(kVersion)) endpoint.remove_prefix(kVersion.size());
  return path + std::string(endpoint);
}

Result<Url> Url::parse(std::string_view text) {
  const Error bad = Error::usage(fmt::format("'{}' is no address of a server such as http://127.0.0.1:8080", text));
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    url.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  }
  if (!is_plain(rest) || rest.find("://") != std::string_view::npos) return bad;
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash), port;
  url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  const size_t host_end = authority.starts_with('[') ? authority.find(']') : authority.find(':');
  if (authority.starts_with('[')) {
    if (host_end == std::string_view::npos) return bad;
    url.host = authority.substr(1, host_end - 1);
    port = authority.substr(host_end + 1);
  } else {
    url.host = authority.substr(0, host_end);
    port = authority.substr(std::min(host_end, authority.size()));
  }
  if (url.host.empty()) return bad;
  if (!port.empty() && (port.front() != ':' || !is_port(port.substr(1)))) return bad;
  url.port = port.empty() ? (url.tls ? "443" : "80") : std::string(port.substr(1));
  return url;
}

}  // namespace spate::load
