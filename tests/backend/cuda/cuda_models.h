// Models and executors that the tests of the CUDA executor share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "backend/cuda/cuda_executor.h"

#include "support/random_model.h"

namespace spate::cuda::testing {

struct NamedModel {
  const char* name;
  spate::testing::RandomModel model;
  friend void PrintTo(const NamedModel& named, std::ostream* out) { *out << named.name; }
};
// Every architecture, every quant type, head size and group of query heads; widths off every tile.
const std::vector<NamedModel>& random_models();

// Writes and opens a model; a failure fails the test and returns null.
std::shared_ptr<const Model> make_model(const spate::testing::RandomModel& model, const std::string& path);
std::shared_ptr<const Model> open_model(const std::string& path);

// An executor on the first GPU; a failure fails the test and returns null.
std::unique_ptr<CudaExecutor> make_executor(
    const std::shared_ptr<const Model>& model, const ExecutorLimits& limits,
    const std::function<void(CudaExecutorOptions&)>& change = [](CudaExecutorOptions&) {});

std::vector<int32_t> random_tokens(int n, int vocab_size, uint32_t seed);

}  // namespace spate::cuda::testing
