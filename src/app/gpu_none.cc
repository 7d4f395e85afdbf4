#include "app/gpu.h"

namespace spate::app {

namespace {

Error no_backend() {
  return Error::unsupported("this build has no CUDA executor; use --device cpu, or auto for what there is");
}

}  // namespace

Result<std::string> find_gpu(const DeviceOptions&) {
  return no_backend();
}

Result<std::unique_ptr<Executor>> make_gpu_executor(const std::shared_ptr<const Model>&, const DeviceOptions&,
                                                    const ExecutorLimits&, const std::function<void(double)>&) {
  return no_backend();
}

Result<DevicePeaks> measure_gpu_peaks(const DeviceOptions&) {
  return no_backend();
}

Result<void> time_gpu_kernels(const DeviceOptions&, const KernelBenchOptions&,
                              const std::function<bool(const KernelTiming&)>&) {
  return no_backend();
}

Result<MemoryReport> gpu_memory(const Model&, const DeviceOptions&, const ExecutorLimits&) {
  return no_backend();
}

}  // namespace spate::app
