// The golden values of the demo model (tests/fixtures/demo).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/executor.h"

namespace spate::testing {

struct GoldenPrompt {
  std::string prompt;
  std::vector<int32_t> ids;             // of the prompt
  std::vector<float> prompt_logprobs;   // [ids.size() - 1] of each id after the first
  std::vector<int32_t> last_top16_ids;  // most likely first token after the prompt
  std::vector<float> last_top16_logits;
  std::vector<int32_t> greedy_ids;   // continuation
  std::vector<float> greedy_margin;  // logit of the best less that of the second, at each of greedy_ids
};

// name: "golden.json" (the F16 file) or "golden-q4_k_m.json" (the bundled one).
std::vector<GoldenPrompt> load_golden(const std::string& name);

// How an executor's teacher-forced pass over prompt + golden tokens compares.
struct GoldenComparison {
  int n_compared = 0;        // positions whose golden margin is over the threshold
  int n_differ = 0;          // of those, where the most likely token is another
  double worst_logprob = 0;  // of the prompt's log-probabilities, absolute
  double worst_top16 = 0;    // of the 16 largest last logits, relative to the largest of them
};
GoldenComparison compare_golden(Executor& executor, const std::vector<GoldenPrompt>& prompts, float min_margin,
                                int step_tokens, int in_flight);

}  // namespace spate::testing
