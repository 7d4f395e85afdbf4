// What the attention kernels are launched with.
#pragma once

#include "backend/cuda/ops.h"

namespace spate::cuda {

struct AttentionParams {
  const __half* q;  // [T, n_heads, head_dim]
  std::byte* kv;    // page p at kv + p * page_bytes
  int64_t page_bytes;
  const int32_t* pages;  // DeviceBatch
  AttentionWork work;
  int decode_ctas, decode_stages;
  int decode_slots_log2;  // of clusters' warps
  float* partials;        // of this kernel
  uint32_t* counters;
  float scale_log2;  // of a score, before 2^x
  int n_heads, n_kv_heads, group;
  __half* out;  // [T, out_stride], permuted
  int64_t out_stride;
};

// All launch for the KV type and the head size of `args`; CHECK that there is a kernel.
void launch_decode(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                   cudaStream_t stream);
void launch_decode_clusters(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                            cudaStream_t stream);
void launch_prefill(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                    cudaStream_t stream);

}  // namespace spate::cuda
