// A measurement as it is reported: rates, their spread, and shares of the device's peaks.
#pragma once

#include "backend/device_peaks.h"
#include "bench/bench_run.h"
#include "bench/statistics.h"

namespace spate {

struct BenchRow {
  BenchCase bench_case;
  int n_steps = 0;
  Spread tok_s;            // over the repetitions: tokens that went through the model, a second
  double seconds = 0;      // of the median repetition; what follows is of it
  double bytes_per_s = 0;  // that had to move
  double multiply_adds_per_s = 0;
  double read_share = 0, math_share = 0;  // 1: at the peak
  // Of what bounds the test: multiply-adds for prefill, reading for decode and mixed steps.
  double peak_share = 0;
};

BenchRow bench_row(const BenchMeasurement& measurement, const DevicePeaks& peaks);

}  // namespace spate
