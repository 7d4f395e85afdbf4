#include "app/load.h"

#include <utility>

#include "app/progress_bar.h"
#include "backend/cpu/cpu_executor.h"
#include "backend/cpu/cpu_peaks.h"
#include "base/env_options.h"

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

Result<std::optional<CpuChoice>> cpu_choice(const DeviceOptions& options) {
  if (options.device == "cuda")
    return Error::unsupported("this build has no CUDA executor; use --device cpu, or auto for what there is");
  SPATE_TRY(const Isa isa, isa_from_name(options.isa.empty() ? env_options().isa : options.isa));
  return std::optional(
      CpuChoice{.n_threads = options.n_threads > 0 ? options.n_threads : physical_cores(), .isa = isa});
}

Result<std::unique_ptr<Executor>> make_executor(std::shared_ptr<const Model> model, const DeviceOptions& options,
                                                const ExecutorLimits& limits) {
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options));
  ProgressBar bar("loading");
  return make_cpu_executor(std::move(model), {.limits = limits,
                                              .n_threads = cpu->n_threads,
                                              .isa = cpu->isa,
                                              .repack = !options.no_repack,
                                              .progress = [&bar](double fraction) { bar.update(fraction); }});
}

Result<DevicePeaks> measure_peaks(const DeviceOptions& options) {
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options));
  return measure_cpu_peaks(cpu->n_threads, cpu->isa);
}

}  // namespace spate::app
