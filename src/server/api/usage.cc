#include "server/api/usage.h"

#include <fmt/core.h>

namespace spate::api {
namespace {

double total_seconds(const RequestCost& cost) {
  return cost.queue_seconds + cost.prefill_seconds + cost.decode_seconds;
}

std::string rate_json(int n_tokens, double seconds) {
  return n_tokens > 0 && seconds > 0 ? fmt::format("{:.2f}", n_tokens / seconds) : "null";
}

}  // namespace

// The prompt's last step draws the first token, so decoding brings those after it.
std::string timings_json(const RequestCost& cost) {
  return fmt::format(R"({{"queue_seconds":{:.6f},"prefill_seconds":{:.6f},"decode_seconds":{:.6f},)"
                     R"("prefill_tokens_per_second":{},"decode_tokens_per_second":{}}})",
                     cost.queue_seconds, cost.prefill_seconds, cost.decode_seconds,
                     rate_json(cost.n_prompt_tokens - cost.n_cached_tokens, cost.prefill_seconds),
                     rate_json(cost.n_generated_tokens - 1, cost.decode_seconds));
}

void Usage::add(int choice, const RequestCost& cost) {
  if (choice == 0) {
    prompt_tokens_ += cost.n_prompt_tokens;
    cached_tokens_ += cost.n_cached_tokens;
  }
  completion_tokens_ += cost.n_generated_tokens;
  if (total_seconds(cost) >= total_seconds(slowest_)) slowest_ = cost;
}

std::string Usage::json() const {
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}})",
      prompt_tokens_, completion_tokens_, prompt_tokens_ + completion_tokens_, cached_tokens_);
}

std::string Usage::json_of_prompt() const {
  return fmt::format(R"({{"prompt_tokens":{},"total_tokens":{}}})", prompt_tokens_, prompt_tokens_);
}

std::string Usage::timings_json() const {
  return api::timings_json(slowest_);
}

}  // namespace spate::api
