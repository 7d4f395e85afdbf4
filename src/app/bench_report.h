// What `spate bench` prints: tables, JSON and charts.
#pragma once

#include <string>
#include <vector>

#include "app/text_format.h"
#include "backend/device_peaks.h"
#include "bench/bench_row.h"
#include "bench/kernel_bench.h"

namespace spate::app {

// One run of the command.
struct BenchSetup {
  std::string model = {};   // path; empty where kernels are measured
  std::string device = {};  // the executor's description of itself
  std::string isa = {};     // of the CPU kernels; empty on another device
  int n_threads = 0;        // of the CPU kernels
  double weight_bytes = 0, kv_bytes_per_token = 0;
  BenchOptions options = {};
  int step_tokens = 0;
  DevicePeaks peaks = {};
};

std::string peaks_text(const DevicePeaks& peaks);

std::string bench_table_header();
std::string bench_table_row(const BenchRow& row);
// version, commit, processor, device, ..., read_gb_s, peaks, rows: [{test, n_prompt, n_generate, batch, depth, tok_s,
// gb_s, peak_share, ...}].
Json bench_json(const BenchSetup& setup, const std::vector<BenchRow>& rows);
// Tokens a second against the batch or, where only that varies, the depth; and what the peaks would allow.
std::string bench_chart(const BenchSetup& setup, const std::vector<BenchRow>& rows);

std::string kernel_table_header();
std::string kernel_table_row(const KernelTiming& timing, const DevicePeaks& peaks);
// Like bench_json(), with kernels: [{isa, type, n_rows, n_cols, n_tokens, pass_bytes, gb_s, read_share, gmac_s,
// math_share}].
Json kernel_json(const BenchSetup& setup, const std::vector<KernelTiming>& timings);

}  // namespace spate::app
