#include "load/load_summary.h"

#include <algorithm>
#include <numeric>

namespace spate::load {

double percentile(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<size_t>(p / 100 * static_cast<double>(sorted.size()));
  return sorted[std::min(at, sorted.size() - 1)];
}

Percentiles percentiles_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {.n = static_cast<int64_t>(values.size()),
          .mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()),
          .p50 = percentile(values, 50),
          .p90 = percentile(values, 90),
          .p95 = percentile(values, 95),
          .p99 = percentile(values, 99),
          .max = values.back()};
}

LevelSummary summarise(const LevelResult& result) {
  LevelSummary summary;
  summary.n_requests = static_cast<int64_t>(result.requests.size());
  summary.wall_s = result.wall_s;
  summary.most_in_flight = result.most_in_flight;
  std::vector<double> ttft, per_token, end_to_end;
  for (const RequestRecord& request : result.requests) {
    if (!request.failure.empty()) {
      Failures& failures = summary.failures[request.failure];
      if (failures.n++ == 0) failures.example = request.detail;
      continue;
    }
    ++summary.n_ok;
    summary.prompt_tokens += request.prompt_tokens;
    summary.output_tokens += request.output_tokens;
    ttft.push_back(request.first_s - request.due_s);
    end_to_end.push_back(request.end_s - request.due_s);
    if (request.output_tokens > 1)
      per_token.push_back((request.last_s - request.first_s) / (request.output_tokens - 1));
  }
  summary.ttft = percentiles_of(std::move(ttft));
  summary.gap = percentiles_of({result.gaps_s.begin(), result.gaps_s.end()});
  summary.per_token = percentiles_of(std::move(per_token));
  summary.end_to_end = percentiles_of(std::move(end_to_end));
  return summary;
}

}  // namespace spate::load
