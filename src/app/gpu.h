// The GPU, for a program that may have been built without a GPU backend or run where there is none. Two files implement
// this, and the build takes one: gpu_cuda.cc or gpu_none.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/options.h"
#include "backend/device_peaks.h"
#include "backend/executor.h"
#include "base/error.h"
#include "bench/kernel_bench.h"
#include "model/model.h"

namespace spate::app {

// What a part of a device's memory is for.
struct MemoryUse {
  std::string purpose;
  int64_t n_bytes;
};
// Of a model with given limits, on a device.
struct MemoryReport {
  std::string device;
  std::vector<MemoryUse> uses = {};
  int64_t kv_tokens = 0;
  int64_t available_bytes = 0;  // for all of it; 0: not known
};

// The name of the GPU that the options mean. Error kUnsupported: this build has no GPU backend or no code for that
// one, there is no driver, or no such device; kBackend: it does not answer.
Result<std::string> find_gpu(const DeviceOptions& options);

// Error as make_cuda_executor(), and kUsage for options that it does not take.
Result<std::unique_ptr<Executor>> make_gpu_executor(const std::shared_ptr<const Model>& model,
                                                    const DeviceOptions& options, const ExecutorLimits& limits,
                                                    const std::function<void(double fraction)>& progress);

// What the GPU that the options name can do at most, measured now. Error as find_gpu().
Result<DevicePeaks> measure_gpu_peaks(const DeviceOptions& options);

// As time_cpu_kernels(), on the GPU that the options name. Error as find_gpu(); kBackend: the device failed.
Result<void> time_gpu_kernels(const DeviceOptions& options, const KernelBenchOptions& kernels,
                              const std::function<bool(const KernelTiming&)>& take);

// What make_gpu_executor() would take, without making anything. Its errors.
Result<MemoryReport> gpu_memory(const Model& model, const DeviceOptions& options, const ExecutorLimits& limits);

}  // namespace spate::app
