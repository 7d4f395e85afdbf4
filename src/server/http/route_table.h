// Which row answers a request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/handler.h"

namespace spate::http {

class RouteTable {
 public:
  // CHECKs that every row has a path from "/" (or "*") and a handler.
  explicit RouteTable(std::vector<Route> rows);

  struct Match {
    const Route* route = nullptr;  // null: none fits
    std::string_view path_rest = {};
    std::string allowed = {};  // where only the method fits nowhere: those that would, "GET, HEAD, POST"
  };
  // HEAD fits rows of GET.
  Match find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> rows_;
};

}  // namespace spate::http
