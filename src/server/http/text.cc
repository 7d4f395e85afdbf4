#include "server/http/text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <atomic>
#include <ctime>
#include <fmt/core.h>
#include <netinet/in.h>
#include <random>
#include <utility>

#include "base/utf8.h"

namespace spate::http {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_word_character(char c) {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '.' || c == '_' || c == '-';
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Takes the part of the text before the separator, and the separator, off its front.
std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (lower(c) >= 'a' && lower(c) <= 'f') return lower(c) - 'a' + 10;
  return -1;
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

const std::string* find_header(const Headers& headers, std::string_view name) {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [name](const Header& header) { return equal_ignoring_case(header.name, name); });
  return found == headers.end() ? nullptr : &found->value;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    if (c == '\0') return std::nullopt;
    out += c;
  }
  if (!is_valid_utf8(out)) return std::nullopt;
  return out;
}

std::optional<Target> parse_target(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equal_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    target.remove_prefix(std::min(target.find_first_of("/?"), target.size()));
    if (target.empty() || target[0] != '/') {
      std::optional<Target> root = parse_target("/" + std::string(target));
      return root;
    }
    break;
  }
  if (target.empty() || target[0] != '/') return std::nullopt;
  Target result;
  std::optional<std::string> path = percent_decode(take_until(target, '?'), false);
  if (!path) return std::nullopt;
  result.path = std::move(*path);
  while (!target.empty()) {
    std::string_view value = take_until(target, '&');
    if (value.empty()) continue;
    std::optional<std::string> name = percent_decode(take_until(value, '='), true);
    std::optional<std::string> decoded = percent_decode(value, true);
    if (!name || !decoded) return std::nullopt;
    result.query.push_back({std::move(*name), std::move(*decoded)});
  }
  return result;
}

std::string_view host_of(std::string_view authority) {
  std::string_view host = authority, port;
  if (authority.starts_with('[')) {
    host = authority.substr(1, authority.find(']') - 1);
    port = authority.substr(std::min(host.size() + 2, authority.size()));
  } else if (const size_t colon = authority.find(':'); colon == authority.rfind(':')) {  // several: an address in IPv6
    host = authority.substr(0, colon);
    port = authority.substr(host.size());
  }
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!port.empty() && (port[0] != ':' || !std::all_of(port.begin() + 1, port.end(), is_digit))) return {};
  if (host.ends_with('.')) host.remove_suffix(1);
  return host;
}

bool is_loopback(std::string_view host) {
  constexpr std::string_view kName = "localhost";
  if (host.size() >= kName.size() && equal_ignoring_case(host.substr(host.size() - kName.size()), kName))
    return host.size() == kName.size() || host[host.size() - kName.size() - 1] == '.';
  const std::string text(host);
  in_addr v4{};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool is_json_type(std::string_view content_type) {
  constexpr std::string_view kSuffix = "+json";
  const std::string_view type = trim(take_until(content_type, ';'));
  const bool is_json =
      equal_ignoring_case(type, "application/json") ||
      (type.size() > kSuffix.size() && equal_ignoring_case(type.substr(type.size() - kSuffix.size()), kSuffix));
  while (!content_type.empty()) {
    std::string_view value = take_until(content_type, ';');
    const std::string_view name = trim(take_until(value, '='));
    value = trim(value);
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
    if (equal_ignoring_case(name, "charset") && !equal_ignoring_case(value, "utf-8") &&
        !equal_ignoring_case(value, "utf8"))
      return false;
  }
  return is_json;
}

bool is_request_id(std::string_view id) {
  constexpr size_t kMaxBytes = 128;
  return !id.empty() && id.size() <= kMaxBytes && std::all_of(id.begin(), id.end(), is_word_character);
}

std::string log_value(std::string_view value) {
  constexpr size_t kMaxBytes = 200;
  const bool plain = !value.empty() && value.size() <= kMaxBytes && std::all_of(value.begin(), value.end(), [](char c) {
    return is_word_character(c) || c == '/' || c == ':' || c == '*';
  });
  return plain ? std::string(value) : quote(value, kMaxBytes);
}

std::string make_request_id() {
  // 32 random bits of the process, and a count: unlike any other of this process, and most likely of its restarts.
  static const uint32_t process = std::random_device{}();
  static std::atomic<uint64_t> count{0};
  return fmt::format("{:08x}{:016x}", process, count.fetch_add(1, std::memory_order_relaxed) + 1);
}

std::string http_date() {
  // strftime() would use the names of the process's locale.
  constexpr std::array kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                     utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::string_view reason_phrase(int status) {
  static constexpr std::pair<int, std::string_view> kPhrases[] = {
      {200, "OK"},
      {204, "No Content"},
      {304, "Not Modified"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {409, "Conflict"},
      {413, "Content Too Large"},
      {415, "Unsupported Media Type"},
      {417, "Expectation Failed"},
      {422, "Unprocessable Content"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
      {505, "HTTP Version Not Supported"},
  };
  for (const auto& [known, phrase] : kPhrases)
    if (known == status) return phrase;
  return "";
}

}  // namespace spate::http
