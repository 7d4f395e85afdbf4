// From what a product is asked for (MatmulArgs) to what its kernels are launched with (MmaParams).
#pragma once

#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

// F16, and what becomes it on the device.
bool is_float_type(QuantType type);

// Whether two matrices have the same kernels.
bool same_kernels(const PackedMatrix& a, const PackedMatrix& b);

int n_panels(const PackedMatrix& matrix);

// What the sums of a product with weights times 2^log2 are multiplied by.
float sums_factor(const MatmulArgs& args, int log2);

// Some of a product's parts: [first, end), the first one's first row in column `column` of y.
struct PartRange {
  int first, end, column;
};

// The parameters but for the plan (warps_m_log2, stream, wide). Parts that have other kernels than the range's first
// are the second type's.
MmaParams resolve_parts(const MatmulArgs& args, const PartRange& range, int n_tokens, const MatmulWorkspace& workspace);

}  // namespace spate::cuda
