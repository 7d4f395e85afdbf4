// Times matrix products by themselves, so that the thresholds of their table are justified by figures (`spate bench
// --kernels`).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "backend/cuda/device_profile.h"
#include "quant/quant_type.h"

namespace spate::cuda {

struct MatmulTimingOptions {
  QuantType type{};
  int n_rows = 0, n_cols = 0;
  std::vector<int> tokens;
  int repeat = 5;
  std::optional<int64_t> pass_bytes = {};  // of the matrices that a replay multiplies; none: more than caches hold
};

struct MatmulTiming {
  int n_tokens;
  double weight_bytes;          // that a product reads
  std::vector<double> seconds;  // [repeat], of a product
};

// A replayed graph runs the product over copies of the matrix, at most 64, one after the other, which is how a step
// runs them: as many as no cache holds, or whole ones in pass_bytes. `take` gets each timing, in the order of tokens,
// and may return false to stop. Error kBackend: the device failed or lacks the memory.
Result<void> time_matmul(const MatmulTimingOptions& options, const DeviceProfile& profile,
                         const std::function<bool(const MatmulTiming&)>& take);

}  // namespace spate::cuda
