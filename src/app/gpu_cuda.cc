#include <algorithm>
#include <thread>

#include "app/gpu.h"
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_executor.h"
#include "backend/cuda/cuda_peaks.h"
#include "backend/cuda/device_memory.h"

namespace spate::app {

namespace {

// Threads that read the weights: copying to page-locked memory reaches the speed of PCIe with about this many.
constexpr int kMaxUploadThreads = 16;

Result<void> tune(const DeviceOptions& options, cuda::DeviceProfile& profile) {
  for (const std::string& assignment : options.tune) SPATE_TRY_VOID(profile.tune(assignment));
  return {};
}

Result<cuda::DeviceProfile> profile_of(const DeviceOptions& options) {
  SPATE_TRY(cuda::DeviceProfile profile, cuda::probe_device(options.gpu_index()));
  SPATE_TRY_VOID(tune(options, profile));
  return profile;
}

int upload_threads(const DeviceOptions& options) {
  if (options.n_threads > 0) return options.n_threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxUploadThreads);
}

// What the device has free for us; 0 where it cannot be asked.
int64_t available_bytes(const cuda::DeviceProfile& profile) {
  try {
    SPATE_CUDA(cudaSetDevice(profile.device), "using device {}", profile.device);
    return std::max<int64_t>(cuda::free_device_bytes() - cuda::reserved_bytes(profile.memory_bytes), 0);
  } catch (const cuda::CudaError&) {
    return 0;
  }
}

}  // namespace

Result<void> find_gpu(const DeviceOptions& options) {
  SPATE_TRY_VOID(cuda::probe_device(options.gpu_index()));
  return {};
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

Result<MemoryReport> gpu_memory(const Model& model, const DeviceOptions& options, const ExecutorLimits& limits) {
  SPATE_TRY(const cuda::KvType kv_type, cuda::kv_type_from_name(options.kv_type));
  Result<cuda::DeviceProfile> found = profile_of(options);
  MemoryReport report{.device = found ? found->name : "a CUDA device"};
  // Without a device the plan is made for a large one, so that it tells what to look for.
  cuda::DeviceProfile profile;
  profile.n_sms = 132;
  if (found) profile = *found;
  if (found) report.available_bytes = available_bytes(profile);
  const int64_t available = report.available_bytes > 0 ? report.available_bytes : int64_t{1} << 50;
  SPATE_TRY(const cuda::MemoryPlan plan, cuda::plan_memory(model, limits, kv_type, profile, available));
  report.uses = {{"weights", plan.weight_bytes}, {"KV cache", plan.kv_bytes()}, {"workspace", plan.workspace_bytes}};
  report.kv_tokens = plan.kv_tokens();
  return report;
}

}  // namespace spate::app
