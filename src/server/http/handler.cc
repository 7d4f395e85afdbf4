#include "server/http/handler.h"

#include <algorithm>

#include "server/http/text.h"

namespace spate::http {
namespace {

const std::string* find_value(const Headers& list, std::string_view name,
                              bool (*equal)(std::string_view, std::string_view)) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const Header& entry) { return equal(entry.name, name); });
  return found == list.end() ? nullptr : &found->value;
}

bool same(std::string_view a, std::string_view b) {
  return a == b;
}

}  // namespace

const std::string* HttpRequest::header(std::string_view name) const {
  return find_value(headers, name, equal_ignoring_case);
}

const std::string* HttpRequest::query_value(std::string_view name) const {
  return find_value(query, name, same);
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
