#include "support/golden.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/executor_driver.h"
#include "support/test_data.h"

namespace spate::testing {

std::vector<GoldenPrompt> load_golden(const std::string& name) {
  std::ifstream file(fixture_path("demo/" + name));
  const nlohmann::json json = nlohmann::json::parse(file);
  std::vector<GoldenPrompt> prompts;
  for (const nlohmann::json& entry : json.at("prompts"))
    prompts.push_back({.prompt = entry.at("prompt"),
                       .ids = entry.at("ids"),
                       .prompt_logprobs = entry.at("prompt_logprobs"),
                       .last_top16_ids = entry.at("last_top16_ids"),
                       .last_top16_logits = entry.at("last_top16_logits"),
                       .greedy_ids = entry.at("greedy_ids"),
                       .greedy_margin = entry.at("greedy_margin")});
  return prompts;
}

GoldenComparison compare_golden(Executor& executor, const std::vector<GoldenPrompt>& prompts, float min_margin,
                                int step_tokens, int in_flight) {
  GoldenComparison result;
  for (const GoldenPrompt& golden : prompts) {
    std::vector<int32_t> tokens = golden.ids;
    tokens.insert(tokens.end(), golden.greedy_ids.begin(), golden.greedy_ids.end());
    const Scored scored = score_tokens(
        executor, tokens, {.step_tokens = step_tokens, .n_logprobs = kMaxLogprobs, .in_flight = in_flight});
    if (scored.best.size() != tokens.size()) return result;  // the driver has failed the test
    const size_t n_prompt = golden.ids.size();
    for (size_t i = 0; i + 1 < n_prompt; ++i)
      result.worst_logprob = std::max(
          result.worst_logprob, std::abs(static_cast<double>(scored.next_logprob[i]) - golden.prompt_logprobs[i]));
    std::map<int32_t, float> top;
    for (const TokenLogprob& entry : scored.top[n_prompt - 1]) top[entry.token] = entry.logprob;
    for (size_t i = 1; i < golden.last_top16_ids.size(); ++i) {
      // Log-probabilities differ as logits do. A token that fell out of the 32 largest is off by more than any
      // tolerance.
      const auto entry = top.find(golden.last_top16_ids[i]), best = top.find(golden.last_top16_ids[0]);
      const double actual = entry == top.end() || best == top.end() ? -1e9 : entry->second - best->second;
      result.worst_top16 =
          std::max(result.worst_top16, std::abs(actual - (golden.last_top16_logits[i] - golden.last_top16_logits[0])));
    }
    for (size_t i = 0; i < golden.greedy_ids.size(); ++i) {
      if (golden.greedy_margin[i] <= min_margin) continue;
      ++result.n_compared;
      result.n_differ += scored.best[n_prompt - 1 + i] != golden.greedy_ids[i];
    }
  }
  return result;
}

}  // namespace spate::testing
