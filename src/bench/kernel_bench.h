// Times matrix products by themselves: every instruction set of the CPU, type, shape and number of tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "quant/quant_type.h"

namespace spate {

struct KernelShape {
  int64_t n_rows, n_cols;
};

struct KernelBenchOptions {
  std::vector<Isa> isas;
  std::vector<QuantType> types;
  std::vector<KernelShape> shapes;
  std::vector<int> tokens;
  int n_threads = 1;
  int repeat = 5;
  std::optional<int64_t> pass_bytes = {};  // of weights that a pass reads; none: more than the device's caches hold
};

struct KernelTiming {
  std::optional<Isa> isa;  // of the CPU; none: a GPU's
  QuantType type;
  KernelShape shape;
  int n_tokens;
  double weight_bytes;          // that a pass reads
  double multiply_adds;         // that a pass takes
  std::vector<double> seconds;  // [repeat], of a pass
};

// A pass multiplies about pass_bytes of matrices of the shape or, with so many tokens that this would take long, fewer:
// memory no longer matters there. Types whose qblocks do not divide the columns are left out.
// `take` gets each timing and may return false to stop, which is kInterrupted.
Result<void> time_cpu_kernels(const KernelBenchOptions& options, const std::function<bool(const KernelTiming&)>& take);

}  // namespace spate
