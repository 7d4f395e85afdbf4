// The decoder as plain float32 loops over decoded weights: what every other backend is tested against. It is written to
// be read beside the formulas, not to be fast.
#pragma once

#include <memory>

#include "backend/executor.h"
#include "model/model.h"

namespace spate {

// Decodes every weight to float32 (4 bytes each). Error kIo if the model's file was damaged meanwhile.
Result<std::unique_ptr<Executor>> make_reference_executor(const std::shared_ptr<const Model>& model,
                                                          const ExecutorLimits& limits, int n_threads);

}  // namespace spate
