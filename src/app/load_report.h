// What `spate load` prints: a table, JSON and charts.
#pragma once

#include <string>
#include <vector>

#include "app/text_format.h"

#include "load/load_summary.h"

namespace spate::app {

// One level and its figures.
struct LoadLevel {
  std::string name;  // "8 clients", "2.5 requests/s"
  double x = 0;      // of charts: the clients or the rate
  load::Arrivals arrivals = load::Arrivals::kClosed;
  load::LevelSummary summary;
};

// What was asked of whom.
struct LoadSetup {
  std::string url, api, model;
  std::string prompt, output;  // the distributions, or the trace's name
  std::string unit;            // of prompts
  int shared_prefix = 0, n_prefixes = 1;
  double temperature = 0;
  uint64_t seed = 0;
};

std::string load_table_header();
// A row, and below it the failures by kind.
std::string load_table_row(const LoadLevel& level);
// version, commit, url, ..., levels: [{clients | rate, requests, failed, failures: {kind: {count, example}}, wall_s,
// out_tok_s, ttft_ms: {mean, p50, p90, p95, p99, max}, gap_ms, per_token_ms, end_to_end_ms, ...}].
Json load_json(const LoadSetup& setup, const std::vector<LoadLevel>& levels);
// Of several levels: throughput and latencies by level; of one: latencies by percentile. Levels in which nothing
// succeeded are left out; some level is not.
std::string load_chart(const LoadSetup& setup, const std::vector<LoadLevel>& levels);

}  // namespace spate::app
