#include "app/load.h"

#include <utility>

#include "app/progress_bar.h"
#include "backend/cpu/cpu_executor.h"
#include "base/cpu_features.h"
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

Result<std::unique_ptr<Executor>> make_executor(std::shared_ptr<const Model> model, const DeviceOptions& options,
                                                const ExecutorLimits& limits) {
  if (options.device == "cuda")
    return Error::unsupported("this build has no CUDA executor; use --device cpu, or auto for what there is");
  SPATE_TRY(const Isa isa, isa_from_name(options.isa.empty() ? env_options().isa : options.isa));
  ProgressBar bar("loading");
  return make_cpu_executor(std::move(model), {.limits = limits,
                                              .n_threads = options.n_threads > 0 ? options.n_threads : physical_cores(),
                                              .isa = isa,
                                              .repack = !options.no_repack,
                                              .progress = [&bar](double fraction) { bar.update(fraction); }});
}

}  // namespace spate::app
