// The CUDA backend: runs the model from its quantised weights, re-laid at load, with float16 activations and a paged KV
// cache on one GPU. The host never waits inside a step; decode steps replay captured graphs.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backend/cuda/device_profile.h"
#include "backend/cuda/kv_pool.h"
#include "backend/cuda/memory_plan.h"
#include "backend/executor.h"
#include "model/model.h"

namespace spate {

struct CudaExecutorOptions {
  ExecutorLimits limits;  // n_pages = 0: as many as the memory left holds
  cuda::DeviceProfile profile;
  cuda::KvType kv_type = cuda::KvType::kF16;
  int n_threads = 1;                                   // of the host, for reading the weights
  std::function<void(double fraction)> progress = {};  // of loading, in [0, 1]; may be null
};

class CudaExecutor : public Executor {
 public:
  // What the device's memory is used for.
  virtual const cuda::MemoryPlan& memory() const = 0;

  // Steps enqueued so far, by how they ran.
  struct Counters {
    int64_t layers_replayed = 0, layers_launched = 0;
    int64_t rows_replayed = 0, rows_launched = 0;
  };
  virtual Counters counters() const = 0;
};

// Error kOutOfResources: weights, KV pages and workspace do not fit on the device; kUnsupported: a shape that the
// kernels do not have; kIo: the file was damaged while being read; kBackend: the device failed.
Result<std::unique_ptr<CudaExecutor>> make_cuda_executor(const std::shared_ptr<const Model>& model,
                                                         const CudaExecutorOptions& options);

}  // namespace spate
