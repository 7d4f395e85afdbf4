// Whether a request can be run at all.
#pragma once

#include "engine/request.h"

namespace spate {

struct RequestLimits {
  int vocab_size = 0;
  int context_tokens = 0;  // prompt and generated tokens together
  bool has_text = false;   // a tokenizer is there, so stop strings can be found
};

// Error kUsage: a field is out of range; kOutOfResources: the prompt does not fit the context.
Result<void> check_request(const Request& request, const RequestLimits& limits);

}  // namespace spate
