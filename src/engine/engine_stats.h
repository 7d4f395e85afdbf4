// What the engine knows of itself and nobody else does: for metrics, and for those who watch over it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "engine/request.h"

namespace spate {

// Counts of values by size; cumulative counts, as Prometheus wants them, are sums from the left.
struct Histogram {
  explicit Histogram(std::vector<double> upper_bounds) : bounds(std::move(upper_bounds)), counts(bounds.size() + 1) {}

  std::vector<double> bounds;    // ascending; a value belongs to the first bucket whose bound is not below it
  std::vector<uint64_t> counts;  // [bounds.size() + 1], the last of values above every bound
  uint64_t count = 0;
  double sum = 0;

  void add(double value) {
    ++counts[static_cast<size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin())];
    ++count;
    sum += value;
  }
};

// Choices, not requests, are counted: a request of three choices runs as three sequences.
struct EngineStats {
  // Now:
  int n_running = 0;
  int n_waiting = 0;             // not begun, or preempted
  int n_preempted = 0;           // of these, preempted
  int64_t n_waiting_tokens = 0;  // of the prompts of those not begun
  int n_pages = 0;               // of the pool: used + cached + free
  int n_pages_used = 0;          // held by running sequences, or by a step in flight
  int n_pages_cached = 0;        // held by nobody; kept for prompts that begin with their tokens, given up when needed

  // Since the start:
  uint64_t n_steps = 0;             // completed
  uint64_t n_prompt_tokens = 0;     // of choices admitted, cached or not
  uint64_t n_cached_tokens = 0;     // of these, taken from the prefix cache
  uint64_t n_generated_tokens = 0;  // delivered
  uint64_t n_prefill_tokens = 0;    // run as part of a prompt, or again after a preemption
  uint64_t n_preemptions = 0;
  uint64_t n_prefix_lookups = 0, n_prefix_hits = 0;      // a hit: at least a page's worth of the prompt was cached
  std::array<uint64_t, kFinishReasons> n_finished = {};  // by FinishReason

  Histogram step_seconds{{.001, .002, .003, .005, .0075, .01, .015, .02, .03, .05, .075, .1, .2, .5, 1, 5}};
  Histogram step_sequences{{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}};
  Histogram step_tokens{{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}};
  Histogram queue_seconds{{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}};
};

}  // namespace spate
