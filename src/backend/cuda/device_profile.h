// What spate knows of a device, chosen once from its properties. The thresholds of all dispatch tables live here, each
// overridable by name (--tune key=value) for experiments; nothing else looks at a device's name or capability.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace spate::cuda {

struct DeviceProfile {
  int device = 0;      // CUDA's index
  std::string name;    // for messages
  int capability = 0;  // 10 * major + minor
  int n_sms = 0;
  int64_t memory_bytes = 0;  // of the device
  int64_t l2_bytes = 0;
  int shared_bytes_per_block = 0;  // opt-in limit
  bool has_clusters = false;       // and bulk copies, and this build code with them: from capability 9.0 on

  // Matrix products by tokens in the step (matmul_dispatch.cc).
  int stream_tokens = 0;          // up to here, at most 8, float16 by CTAs that stay (bulk copies: capability 9.0)
  int stream_decoded_tokens = 0;  // up to here, at most 8, quantised types by such CTAs as float16
  int stream_warps = 20;          // that multiply in such a CTA, at most
  int stream_k_split = 0;         // of such CTAs, 2 or 4 share K in a cluster where activations leave no room; 0: never
  bool stream_k_split_always = false;  // or wherever they can: slower, for tests
  int stream_int8_tokens = 0;  // up to here, at most 1, quantised types by such CTAs as int8 (matmul_stream_int8.h)
  int stream_int8_warps = 16;  // that multiply in such a CTA, at most
  // Of weights, that a CTA of these, or of matmul_wide.cuh, asks for before its predecessor has ended.
  int early_kib = 64, early_int8_kib = 144;
  int wide_min_tokens = 0;    // from here on by matmul_wide.cuh (wgmma: capability 9.0 alone); 0: never
  int wide_cluster = 8;       // there, CTAs of a cluster that share K, at most
  int gemm_min_tokens = 256;  // from here on: decoded once, then cuBLASLt
  // Up to here, below gemm_min_tokens, RMSNorm is folded into the products around it; 0: never.
  int fused_norm_tokens = 8;    // below wide_min_tokens
  int wide_norm_tokens = 64;    // from there on
  int split_k_ctas_per_sm = 2;  // K is shared between CTAs until about this many run on each SM
  int mma_warps_m = 0;          // warps of a CTA that take different rows (1 to 8, of wgmma's 4 to 16); 0: by the table
  int mma_split_k = 0;          // CTAs that share K; 0: by the table
  // Attention.
  int attention_split_pages = 0;  // pages of KV a work item takes at most; 0: planned from the load
  int attention_cluster = 0;      // CTAs of the clusters that decode, where there are any (1, 2, 4, 8); 0: planned
  // Long prefill multiplies in E4M3 (gemm_fp8.h), and with sums that stay in the tensor cores' own precision.
  bool prefill_fp8 = false;
  bool fp8_fast_sums = false;
  // Programmatic dependent launch between the kernels of a step (from capability 9.0 on).
  bool dependent_launch = false;
  // Decode steps replay captured graphs.
  bool graphs = true;

  // Whether products of so many tokens are matmul_wide.cuh's.
  bool takes_wide(int n_tokens) const { return wide_min_tokens > 0 && n_tokens >= wide_min_tokens; }

  // Sets one threshold by its name. Error (kUsage): no such name (the message lists them) or a value out of range.
  Result<void> tune(std::string_view assignment);

  // "f16" or "fp8", which begins at fewer tokens than the float16 of gemm_min_tokens. Error kUsage: another name, or
  // the device or the code for it has no E4M3.
  Result<void> set_prefill_precision(std::string_view name);
};

// Error (kUnsupported): no driver, no such device, or one that this build has no code for; kBackend: it does not
// answer.
Result<DeviceProfile> probe_device(int device);

}  // namespace spate::cuda
