// The CPU backend: runs the model from its quantised weights, re-laid at load (backend/cpu/linear.h), with int8
// activations and a float16 KV cache. Every number of a token depends on its own sequence alone: batches, chunking and
// thread counts change no bit. Except on AMX, where steps of many tokens are multiplied by tiles of bfloat16: there it
// also matters, within their rounding, which of the two a step is.
#pragma once

#include <functional>
#include <memory>

#include "backend/executor.h"
#include "base/cpu_features.h"
#include "model/model.h"

namespace spate {

struct CpuExecutorOptions {
  ExecutorLimits limits;
  int n_threads = 1;
  Isa isa = Isa::kPortable;
  bool repack = true;  // false: run from the file's mapping, slower, without a copy of the weights
  bool tiles = true;   // false: results that do not depend on how many tokens a step has, on AMX too
  std::function<void(double fraction)> progress = {};  // of loading, in [0, 1]; may be null
};

// Error kOutOfResources: the weights or the KV pages do not fit in memory; kIo: the file was damaged while being read.
Result<std::unique_ptr<Executor>> make_cpu_executor(const std::shared_ptr<const Model>& model,
                                                    const CpuExecutorOptions& options);

}  // namespace spate
