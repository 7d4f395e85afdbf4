// The address of a server.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace spate::load {

struct Url {
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address
  std::string port;
  std::string path;  // "" or "/...", without a slash at its end

  // host:port as the Host header has it: without a port that is the scheme's own.
  std::string authority() const;
  // "/v1/completions" below the path; a path that ends with /v1, as clients of the API are given it, is not doubled.
  std::string target(std::string_view endpoint) const;

  // "http://host[:port][/path]" or https; a text without a scheme is http. Error kUsage: anything else, also user
  // names, queries and fragments, which no server of the API has.
  static Result<Url> parse(std::string_view text);
};

}  // namespace spate::load
