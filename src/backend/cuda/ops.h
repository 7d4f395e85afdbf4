// The kernels of a layer other than its matrix products (matmul.h), as host functions that launch on a stream. Device
// pointers throughout. Shapes are [outer, ..., inner], row-major.
//
// Everything that changes from step to step is read from device memory at fixed addresses (DeviceBatch), so that a
// captured graph replays for any step of its bucket: the host-side counts below only size grids. Tokens without a page
// (TokenPlace) are padding: kernels may compute on them, but write no KV for them and never fault on what their inputs
// hold.
//
// A DeviceBatch, the attention's work lists and the KV pages of earlier steps must be complete before a step's first
// kernel starts (a copy or a graph launch between two steps sees to that): kernels under dependent launch read them
// ahead.
//
// Every function may be called inside a stream capture, allocates nothing, and never waits. A launch that fails is a
// CudaError (cuda_check.h) that names the operation and the sizes. dependent_launch (DeviceProfile): launched with
// programmatic dependent launch (launch.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "backend/cuda/activations.h"
#include "backend/cuda/attention_plan.h"
#include "backend/cuda/kv_pool.h"
#include "model/model_spec.h"
#include "quant/quant_type.h"

namespace spate::cuda {

// Where a token's key and value go, in one load. All zeros are padding, so that a block of zeros is a step of no token.
struct alignas(8) TokenPlace {
  int32_t position = 0;
  int32_t page_plus_1 = 0;

  SPATE_HD constexpr int page() const { return page_plus_1 - 1; }  // that holds the position; -1: padding
  SPATE_HD constexpr bool is_padding() const { return page_plus_1 == 0; }
};

// What a step's kernels read, all in device memory, filled by one copy from a pinned block before the step.
struct DeviceBatch {
  const int32_t* tokens;       // [T] token ids; where from_row >= 0, the id is previous_tokens[from_row]
  const int32_t* from_row;     // [T] -1, or a row of the step before
  const TokenPlace* places;    // [T]
  const int32_t* q_start;      // [S + 1]
  const int32_t* kv_len;       // [S]
  const int32_t* pages;        // lists end to end, a sequence after the other, of just the pages that cover kv_len
  const int32_t* n_seqs_real;  // [1]
};

// residual[T, d_model] = the embedding row of each token, from a table in the file's own qblocks (rows of whole
// qblocks, on the device). previous_tokens: the tokens drawn by the step before, a row each.
struct EmbedArgs {
  const void* table;  // [vocab_size] rows of row_bytes
  QuantType type;
  int d_model;
  int64_t row_bytes;
  DeviceBatch batch;
  const int32_t* previous_tokens;
  float* residual;  // [T, d_model]
  bool dependent_launch = false;
};
void embed(const EmbedArgs& args, int n_tokens, cudaStream_t stream);

// x[t] = RMSNorm(residual[row t]) * weight, permuted for the products that follow (activations.h). With gather != null,
// output row t takes residual row gather[t] (the LM head's rows); a negative entry writes zeros.
struct NormArgs {
  const float* residual;  // [*, d_model]
  const float* weight;    // [d_model]
  const int32_t* gather;  // [n_rows] or null
  __half* x;              // [n_rows, padded_cols(d_model)]
  float* hidden;          // [n_rows, d_model] the same values in float32 and natural order, or null
  int d_model;
  float epsilon;
  float* next_scale = nullptr;  // [n_rows] receives the scale of the next norm's activations (norm_fold.h), or null
  bool dependent_launch = false;
};
void rms_norm(const NormArgs& args, int n_rows, cudaStream_t stream);

// Heads as the QKV product leaves them, and what makes queries, keys and values of them: bias, QK-norm (RMSNorm of each
// head), rotary embedding.
struct RawHeads {
  const float* qkv = nullptr;          // [T, q_dim + 2 kv_dim]: queries, keys, values of a token
  const float* bias = nullptr;         // [q_dim + 2 kv_dim] or null
  const float* q_norm = nullptr;       // [head_dim] or null; then k_norm too
  const float* k_norm = nullptr;       // [head_dim]
  const float* frequencies = nullptr;  // [rotary_dim / 2] angle per position (RopeSpec::frequencies)
  float magnitude = 1;                 // RopeSpec::magnitude
  float norm_epsilon = 0;
  RopeStyle style{};
  int rotary_dim = 0;
};
// What follows the QKV product: queries made, keys and values written to their pages.
struct RopeKvArgs {
  RawHeads raw;
  int n_heads, n_kv_heads, head_dim;
  DeviceBatch batch;
  KvLayer kv;  // where keys and values go
  __half* q;   // [T, n_heads, head_dim]
  bool dependent_launch = false;
};
void rope_and_write_kv(const RopeKvArgs& args, int n_tokens, cudaStream_t stream);

// Softmax(scale q k^T, causal) v over a sequence's pages, grouped-query heads sharing each read of keys and values.
// Work is planned on the host from lengths alone (attention_plan.h) and read from device memory by a fixed grid.
struct AttentionArgs {
  const __half* q;  // [T, n_heads, head_dim]
  KvLayer kv;
  DeviceBatch batch;
  AttentionWork work;        // device pointers to the step's work lists
  AttentionScratch scratch;  // partial results of split sequences
  float scale;
  int n_heads, n_kv_heads, head_dim;
  __half* out;  // [T, padded_cols(n_heads * head_dim)], permuted (activations.h)
  bool dependent_launch = false;
};
void attention(const AttentionArgs& args, const AttentionGrid& grid, cudaStream_t stream);

}  // namespace spate::cuda
