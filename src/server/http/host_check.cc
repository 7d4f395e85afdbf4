#include "server/http/host_check.h"

#include <algorithm>

#include "server/http/text.h"

namespace spate::http {

HostCheck::HostCheck(const HttpOptions& options)
    : accepts_all_(options.allowed_hosts.empty() && !(is_loopback(options.host) && options.api_keys.empty())) {
  for (const std::string& name : options.allowed_hosts) {
    accepts_all_ = accepts_all_ || name == "*";
    allowed_.emplace_back(host_of(name));
  }
}

bool HostCheck::accepts(std::string_view host) const {
  if (accepts_all_) return true;
  const std::string_view name = host_of(host);
  return is_loopback(name) || std::any_of(allowed_.begin(), allowed_.end(), [name](const std::string& allowed) {
           return equal_ignoring_case(name, allowed);
         });
}

}  // namespace spate::http
