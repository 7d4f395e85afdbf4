// Runs the steps of a case on an executor and takes the time.
#pragma once

#include <functional>
#include <vector>

#include "backend/executor.h"
#include "base/error.h"
#include "bench/bench_case.h"
#include "bench/step_work.h"

namespace spate {

struct BenchOptions {
  int repeat = 5;  // measured repetitions, at least 1
  int warmup = 1;  // repetitions before them
  uint64_t seed = 1;
};

struct BenchMeasurement {
  BenchCase bench_case;
  int n_steps = 0;              // of a repetition
  Work work;                    // of a repetition
  std::vector<double> seconds;  // [repeat] from enqueuing the first step to having waited for the last
};

// Two steps are in flight, as in the engine. `progress` is asked before every step with the share of the steps done and
// may return false to stop. Error: the executor's, or kInterrupted; nothing is then in flight.
Result<BenchMeasurement> run_bench_case(Executor& executor, const BenchCase& bench_case, const ModelWork& work,
                                        int vocab_size, const BenchOptions& options,
                                        const std::function<bool(double fraction)>& progress);

}  // namespace spate
