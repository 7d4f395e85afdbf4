// From a path and options to what runs: the model, its tokenizer, an executor.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "app/options.h"
#include "backend/device_peaks.h"
#include "backend/executor.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace spate::app {

struct LoadedModel {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
};

// `given` as model_path() takes it.
Result<LoadedModel> load_model(const std::string& given);

// The tokenizer alone: also of a file without tensors or hyper-parameters.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& given);

// The executor of the device asked for, with a progress bar while it loads. Error kUnsupported for a device that this
// build lacks, kUsage for an instruction set that the processor lacks.
Result<std::unique_ptr<Executor>> make_executor(std::shared_ptr<const Model> model, const DeviceOptions& options,
                                                const ExecutorLimits& limits);

// Where a CPU executor would run; nothing where the options mean another device.
struct CpuChoice {
  int n_threads;
  Isa isa;
};
Result<std::optional<CpuChoice>> cpu_choice(const DeviceOptions& options);

// What the device that make_executor() would use can do at most, measured now; its errors.
Result<DevicePeaks> measure_peaks(const DeviceOptions& options);

}  // namespace spate::app
