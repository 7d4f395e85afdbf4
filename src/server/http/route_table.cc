#include "server/http/route_table.h"

#include <utility>

#include "base/check.h"

namespace spate::http {
namespace {

bool path_fits(const Route& row, std::string_view path, std::string_view& rest) {
  rest = {};
  const std::string_view pattern = row.path;
  if (!pattern.ends_with('*')) return pattern == path;
  const std::string_view prefix = pattern.substr(0, pattern.size() - 1);
  if (!path.starts_with(prefix)) return false;
  rest = path.substr(prefix.size());
  return true;
}

bool method_fits(const Route& row, std::string_view method) {
  return row.method == "*" || row.method == method || (method == "HEAD" && row.method == "GET");
}

void add_method(std::string& list, std::string_view method) {
  if (list.find(method) != std::string::npos) return;  // no method's name is part of another's
  if (!list.empty()) list += ", ";
  list += method;
}

}  // namespace

RouteTable::RouteTable(std::vector<Route> rows) : rows_(std::move(rows)) {
  for (const Route& row : rows_) {
    SPATE_CHECK(row.path.starts_with('/') || row.path == "*", "a route's path is '{}'", row.path);
    SPATE_CHECK(row.handler != nullptr && !row.method.empty(), "route {} has no method or handler", row.path);
  }
}

RouteTable::Match RouteTable::find(std::string_view method, std::string_view path) const {
  Match match;
  for (const Route& row : rows_) {
    std::string_view rest;
    if (!path_fits(row, path, rest)) continue;
    if (method_fits(row, method)) return {.route = &row, .path_rest = rest};
    add_method(match.allowed, row.method);
    if (row.method == "GET") add_method(match.allowed, "HEAD");
  }
  return match;
}

}  // namespace spate::http
