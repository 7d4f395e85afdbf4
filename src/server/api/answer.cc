#include "server/api/answer.h"

#include <ctime>
#include <fmt/core.h>

#include "base/check.h"
#include "server/api/json_text.h"
#include "server/http/text.h"

namespace spate::api {

AnswerHead AnswerHead::make(std::string_view id_prefix, const std::string& model) {
  return {.id = std::string(id_prefix) + http::make_request_id(), .created = std::time(nullptr), .model = model};
}

std::string AnswerHead::opening(std::string_view object) const {
  return fmt::format(R"({{"id":{},"object":"{}","created":{},"model":{},"system_fingerprint":null,"choices":[)",
                     json_text(id), object, created, json_text(model));
}

std::string_view finish_json(FinishReason reason) {
  SPATE_CHECK(reason == FinishReason::kStop || reason == FinishReason::kLength);
  return reason == FinishReason::kStop ? R"("stop")" : R"("length")";
}

}  // namespace spate::api
