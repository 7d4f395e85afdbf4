// The figures of a level: percentiles and rates, and errors by their kind.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "load/load_run.h"

namespace spate::load {

// Of values of one kind, in their unit; all 0 where there are none.
struct Percentiles {
  int64_t n = 0;
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
};
Percentiles percentiles_of(std::vector<double> values);
// The element at floor(p / 100 * n) of the values in order, at most the last; 0 of none. p in [0, 100].
double percentile(const std::vector<double>& sorted, double p);

struct Failures {
  int64_t n = 0;
  std::string example;  // what the first said
};

struct LevelSummary {
  int64_t n_requests = 0, n_ok = 0;
  std::map<std::string, Failures> failures;  // by kind
  double wall_s = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;  // of the requests that did not fail
  int most_in_flight = 0;
  // In seconds, of the requests that did not fail, from when each was due.
  Percentiles ttft;        // to the first text
  Percentiles gap;         // between consecutive events with text
  Percentiles per_token;   // (last - first) / (tokens - 1), a value a request of at least two tokens
  Percentiles end_to_end;  // to the end of the answer

  int64_t n_failed() const { return n_requests - n_ok; }
  double output_tokens_per_s() const { return rate(output_tokens); }
  double total_tokens_per_s() const { return rate(prompt_tokens + output_tokens); }
  double requests_per_s() const { return rate(n_ok); }

 private:
  double rate(int64_t count) const { return wall_s > 0 ? static_cast<double>(count) / wall_s : 0; }
};

LevelSummary summarise(const LevelResult& result);

}  // namespace spate::load
