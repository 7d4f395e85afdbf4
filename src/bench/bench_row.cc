#include "bench/bench_row.h"

namespace spate {

BenchRow bench_row(const BenchMeasurement& measurement, const DevicePeaks& peaks) {
  const auto n_tokens = static_cast<double>(measurement.bench_case.n_tokens());
  std::vector<double> tok_s;
  for (const double seconds : measurement.seconds) tok_s.push_back(n_tokens / seconds);
  BenchRow row{.bench_case = measurement.bench_case, .n_steps = measurement.n_steps, .tok_s = spread_of(tok_s)};
  row.seconds = n_tokens / row.tok_s.median;
  row.bytes_per_s = measurement.work.bytes / row.seconds;
  row.multiply_adds_per_s = measurement.work.multiply_adds() / row.seconds;
  row.read_share = read_share(measurement.work, row.seconds, peaks);
  row.math_share = math_share(measurement.work, row.seconds, peaks);
  row.peak_share = row.bench_case.test == BenchTest::kPrefill ? row.math_share : row.read_share;
  return row;
}

}  // namespace spate
