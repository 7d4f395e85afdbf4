#include "server/http/handler.h"

#include <algorithm>

#include "server/http/text.h"

namespace spate::http {

const std::string* HttpRequest::header(std::string_view name) const {
  return find_header(headers, name);
}

const std::string* HttpRequest::query_value(std::string_view name) const {
  const auto found =
      std::find_if(query.begin(), query.end(), [name](const Header& entry) { return entry.name == name; });
  return found == query.end() ? nullptr : &found->value;
}

std::string_view outcome_name(RequestRecord::Outcome outcome) {
  switch (outcome) {
    case RequestRecord::Outcome::kComplete:
      return "complete";
    case RequestRecord::Outcome::kClientGone:
      return "client_gone";
    case RequestRecord::Outcome::kCutOff:
      return "cut_off";
    case RequestRecord::Outcome::kTimedOut:
      return "timed_out";
    case RequestRecord::Outcome::kAborted:
      return "aborted";
  }
  return "?";
}

}  // namespace spate::http
