#include <algorithm>
#include <thread>

#include "app/gpu.h"
#include "backend/cuda/cuda_executor.h"
#include "backend/cuda/cuda_peaks.h"
#include "backend/cuda/matmul_timing.h"

namespace spate::app {

namespace {

// Threads that read the weights: copying to page-locked memory reaches the speed of PCIe with about this many.
constexpr int kMaxUploadThreads = 16;

Result<cuda::DeviceProfile> profile_of(const DeviceOptions& options) {
  SPATE_TRY(cuda::DeviceProfile profile, cuda::probe_device(options.gpu_index()));
  SPATE_TRY_VOID(profile.set_prefill_precision(options.prefill_precision));
  for (const std::string& assignment : options.tune) SPATE_TRY_VOID(profile.tune(assignment));
  return profile;
}

int upload_threads(const DeviceOptions& options) {
  if (options.n_threads > 0) return options.n_threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxUploadThreads);
}

}  // namespace

Result<std::string> find_gpu(const DeviceOptions& options) {
  SPATE_TRY(cuda::DeviceProfile profile, cuda::probe_device(options.gpu_index()));
  return std::move(profile.name);
}

Result<std::unique_ptr<Executor>> make_gpu_executor(const std::shared_ptr<const Model>& model,
                                                    const DeviceOptions& options, const ExecutorLimits& limits,
                                                    const std::function<void(double)>& progress) {
  SPATE_TRY(const cuda::DeviceProfile profile, profile_of(options));
  SPATE_TRY(const cuda::KvType kv_type, cuda::kv_type_from_name(options.kv_type));
  SPATE_TRY(std::unique_ptr<Executor> executor, make_cuda_executor(model, {.limits = limits,
                                                                           .profile = profile,
                                                                           .kv_type = kv_type,
                                                                           .n_threads = upload_threads(options),
                                                                           .progress = progress}));
  return executor;
}

Result<DevicePeaks> measure_gpu_peaks(const DeviceOptions& options) {
  SPATE_TRY(const cuda::DeviceProfile profile, profile_of(options));
  return cuda::measure_peaks(profile);
}

Result<void> time_gpu_kernels(const DeviceOptions& options, const KernelBenchOptions& kernels,
                              const std::function<bool(const KernelTiming&)>& take) {
  SPATE_TRY(const cuda::DeviceProfile profile, profile_of(options));
  bool goes_on = true;
  for (const KernelShape& shape : kernels.shapes)
    for (const QuantType type : kernels.types) {
      if (!goes_on || shape.n_cols % quant_traits(type).block_elems != 0) continue;
      const cuda::MatmulTimingOptions timing{.type = type,
                                             .n_rows = static_cast<int>(shape.n_rows),
                                             .n_cols = static_cast<int>(shape.n_cols),
                                             .tokens = kernels.tokens,
                                             .repeat = kernels.repeat,
                                             .pass_bytes = kernels.pass_bytes};
      SPATE_TRY_VOID(cuda::time_matmul(timing, profile, [&](const cuda::MatmulTiming& timed) {
        goes_on = take({.isa = {},
                        .type = type,
                        .shape = shape,
                        .n_tokens = timed.n_tokens,
                        .weight_bytes = timed.weight_bytes,
                        .multiply_adds = static_cast<double>(shape.n_rows * shape.n_cols) * timed.n_tokens,
                        .seconds = timed.seconds});
        return goes_on;
      }));
    }
  if (!goes_on) return Error::interrupted("stopped before everything was measured");
  return {};
}

Result<MemoryReport> gpu_memory(const Model& model, const DeviceOptions& options, const ExecutorLimits& limits) {
  SPATE_TRY(const cuda::DeviceProfile profile, profile_of(options));
  SPATE_TRY(const cuda::KvType kv_type, cuda::kv_type_from_name(options.kv_type));
  SPATE_TRY(const int64_t available, cuda::available_device_bytes(profile));
  SPATE_TRY(const cuda::MemoryPlan plan, cuda::plan_memory(model, limits, kv_type, profile, available));
  return MemoryReport{
      .device = profile.name,
      .uses = {{"weights", plan.weight_bytes}, {"KV cache", plan.kv_bytes()}, {"workspace", plan.workspace_bytes}},
      .kv_tokens = plan.kv_tokens(),
      .available_bytes = available};
}

}  // namespace spate::app
