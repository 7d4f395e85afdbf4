#include "backend/cuda/tensor_map.h"

#include <cudaTypedefs.h>

#include "backend/cuda/cuda_check.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

// The driver is not linked: a machine without one runs on the CPU.
PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  SPATE_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
             "asking the driver for tensor maps");
  SPATE_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr, "the driver has no tensor maps");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

CUtensorMap map_activations(const __half* x, int n_tokens, int n_cols, int box_tokens) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  CUtensorMap map;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(n_cols), static_cast<cuuint64_t>(n_tokens)};
  const cuuint64_t row_bytes[] = {static_cast<cuuint64_t>(n_cols) * sizeof(__half)};
  const cuuint32_t box[] = {64, static_cast<cuuint32_t>(box_tokens)}, steps[] = {1, 1};
  const CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2, const_cast<__half*>(x), sizes, row_bytes,
                                 box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  SPATE_CHECK(result == CUDA_SUCCESS, "error {} mapping activations of {} x {} by {} tokens", static_cast<int>(result),
              n_tokens, n_cols, box_tokens);
  return map;
}

}  // namespace spate::cuda
