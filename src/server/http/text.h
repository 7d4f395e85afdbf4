// Small text rules of HTTP and URLs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/http/handler.h"

namespace spate::http {

// ASCII letters match either way (RFC 9110, 5.1).
bool equal_ignoring_case(std::string_view a, std::string_view b);

// The value of the first header of that name, whatever its case; null where there is none.
const std::string* find_header(const Headers& headers, std::string_view name);

// %XX undone; with plus_is_space, + as well (forms). Nothing where an escape is broken, or gives a NUL or bytes that
// are no UTF-8.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

// A request's target, cut up.
struct Target {
  std::string path;  // decoded, from "/"
  Headers query;     // decoded
};
// Of origin form ("/a?b=c") or absolute form ("http://host/a?b=c") (RFC 9112, 3.2). Nothing where it is neither, or
// percent_decode() refuses a part.
std::optional<Target> parse_target(std::string_view target);

// The host of "host", "host:port", "[address]" and "[address]:port" (RFC 3986, 3.2.2), without a name's last dot. Empty
// where the port is no number.
std::string_view host_of(std::string_view authority);
// Whether a host is this machine, to itself alone: localhost and names below it (RFC 6761, 6.3), 127.0.0.0/8, ::1.
bool is_loopback(std::string_view host);

// Whether a Content-Type is JSON: application/json or anything ending in +json, and no charset but UTF-8.
bool is_json_type(std::string_view content_type);

// [A-Za-z0-9._-]{1,128}
bool is_request_id(std::string_view id);
// A new one, unlike any other, of 24 such characters.
std::string make_request_id();

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7), of now.
std::string http_date();

// As the value of a field of a log's line: as it is, or in quotes with its odd bytes escaped, and cut after 200.
std::string log_value(std::string_view value);

// "Not Found"; "" for a status that none of this project's answers has.
std::string_view reason_phrase(int status);

}  // namespace spate::http
