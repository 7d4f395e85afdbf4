// What a model would take of the memory of the device that it would run on, without loading it.
#pragma once

#include <string>

#include "app/gpu.h"
#include "app/options.h"
#include "app/text_format.h"
#include "backend/executor.h"
#include "base/error.h"
#include "model/model.h"

namespace spate::app {

// On the GPU that the options mean, or else on the CPU. With n_pages = 0, a GPU's KV cache takes what is left of its
// memory, and that of the CPU holds the context that the model was trained on. Error kOutOfResources: it would not fit,
// as the loader would say.
Result<MemoryReport> memory_report(const Model& model, const DeviceOptions& options, const ExecutorLimits& limits);

Json memory_json(const MemoryReport& report);
std::string memory_text(const MemoryReport& report);

}  // namespace spate::app
