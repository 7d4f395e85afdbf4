#include "app/load.h"

#include <utility>

#include "app/gpu.h"
#include "app/progress_bar.h"
#include "backend/cpu/cpu_executor.h"
#include "backend/cpu/cpu_peaks.h"
#include "base/env_options.h"
#include "base/log.h"

namespace spate::app {

Result<LoadedModel> load_model(const std::string& given) {
  SPATE_TRY(const std::string path, model_path(given));
  LoadedModel loaded;
  SPATE_TRY(loaded.model, Model::open(path));
  SPATE_TRY(Vocab vocab, Vocab::from_gguf(loaded.model->file()));
  SPATE_TRY(loaded.tokenizer, Tokenizer::create(std::move(vocab)));
  return loaded;
}

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& given) {
  SPATE_TRY(const std::string path, model_path(given));
  SPATE_TRY(const GgufFile file, GgufFile::open(path));
  SPATE_TRY(Vocab vocab, Vocab::from_gguf(file));
  SPATE_TRY_VOID(file.check_intact());
  return Tokenizer::create(std::move(vocab));
}

namespace {

// Whether the options mean a GPU, here: auto means one if there is one.
Result<bool> wants_gpu(const DeviceOptions& options) {
  if (options.device == "cpu") return false;
  const Result<std::string> found = find_gpu(options);
  if (found) return true;
  if (options.device != "auto") return found.error();
  log::info("running on the CPU: {}", found.error().message);
  return false;
}

Result<Isa> chosen_isa(const DeviceOptions& options) {
  if (!options.isa.empty()) return isa_from_name(options.isa);
  Result<Isa> isa = isa_from_name(env_options().isa);
  return isa ? isa : Error::usage("SPATE_ISA: " + isa.error().message);
}

Result<std::unique_ptr<Executor>> make_executor_on_cpu(const std::shared_ptr<const Model>& model,
                                                       const DeviceOptions& options, const CpuChoice& cpu,
                                                       const ExecutorLimits& limits,
                                                       const std::function<void(double)>& progress) {
  return make_cpu_executor(model, {.limits = limits,
                                   .n_threads = cpu.n_threads,
                                   .isa = cpu.isa,
                                   .repack = !options.no_repack,
                                   .progress = progress});
}

}  // namespace

Result<std::optional<CpuChoice>> cpu_choice(const DeviceOptions& options) {
  SPATE_TRY(const bool gpu, wants_gpu(options));
  if (gpu) {
    if (!options.isa.empty() || options.no_repack)
      return Error::usage("--isa and --no-repack are for the CPU, and this would run on a GPU: add --device cpu");
    return std::optional<CpuChoice>();
  }
  if (options.kv_type != "f16" || options.prefill_precision != "f16" || !options.tune.empty())
    return Error::usage("--kv-type, --prefill-precision and --tune are for GPUs, and this would run on the CPU");
  SPATE_TRY(const Isa isa, chosen_isa(options));
  return std::optional(
      CpuChoice{.n_threads = options.n_threads > 0 ? options.n_threads : physical_cores(), .isa = isa});
}

Result<std::unique_ptr<Executor>> make_executor(std::shared_ptr<const Model> model, const DeviceOptions& options,
                                                const ExecutorLimits& limits) {
  SPATE_TRY(std::optional<CpuChoice> cpu, cpu_choice(options));
  ProgressBar bar("loading");
  const auto progress = [&bar](double fraction) { bar.update(fraction); };
  if (!cpu) {
    Result<std::unique_ptr<Executor>> executor = make_gpu_executor(model, options, limits, progress);
    if (executor || options.device != "auto" || executor.error().code != ErrorCode::kUnsupported) return executor;
    // A shape that the GPU's kernels lack: what runs on the CPU still runs.
    log::warn("running on the CPU: {}", executor.error().message);
    DeviceOptions on_cpu = options;
    on_cpu.device = "cpu";
    SPATE_TRY(cpu, cpu_choice(on_cpu));
  }
  return make_executor_on_cpu(model, options, *cpu, limits, progress);
}

Result<DevicePeaks> measure_peaks(const DeviceOptions& options) {
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options));
  if (!cpu) return measure_gpu_peaks(options);
  return measure_cpu_peaks(cpu->n_threads, cpu->isa);
}

}  // namespace spate::app
