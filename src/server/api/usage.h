// What a request took: the counts of OpenAI's `usage`, and the times of this server's `timings`.
#pragma once

#include <cstdint>
#include <string>

#include "engine/request.h"

namespace spate::api {

// {"queue_seconds":..,"prefill_seconds":..,"decode_seconds":..,"prefill_tokens_per_second":..,
// "decode_tokens_per_second":..}. A rate is null where there is nothing to tell it by.
std::string timings_json(const RequestCost& cost);

class Usage {
 public:
  // The cost of a choice that has ended. A prompt counts once, by its choice 0.
  void add(int choice, const RequestCost& cost);

  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t cached_tokens() const { return cached_tokens_; }
  int64_t completion_tokens() const { return completion_tokens_; }
  double queue_seconds() const { return slowest_.queue_seconds; }
  double prefill_seconds() const { return slowest_.prefill_seconds; }
  double decode_seconds() const { return slowest_.decode_seconds; }

  // {"prompt_tokens":..,"completion_tokens":..,"total_tokens":..,"prompt_tokens_details":{"cached_tokens":..}}
  std::string json() const;
  // Without completions, as embeddings have it.
  std::string json_of_prompt() const;
  // timings_json() of the choice that took longest: choices run beside one another.
  std::string timings_json() const;

 private:
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0;
  RequestCost slowest_;
};

}  // namespace spate::api
