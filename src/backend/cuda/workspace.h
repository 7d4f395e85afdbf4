// The buffers that a step computes in, taken once for the largest step. Each says which rows it holds and when; none is
// used for two things.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/sampling.h"
#include "backend/executor.h"
#include "model/model_spec.h"

namespace spate::cuda {

struct Workspace {
  // A token of the step a row.
  float* residual = nullptr;  // [max_step_tokens, d_model]
  // The input of a layer's first products, permuted (activations.h): the row's RMSNorm, or all of it but the row's own
  // factor (norm_fold.h).
  __half* normed = nullptr;    // [max_step_tokens, padded_cols(d_model)]
  float* qkv = nullptr;        // [max_step_tokens, q_dim + 2 kv_dim]
  __half* q = nullptr;         // [max_step_tokens, q_dim], RoPE applied
  __half* attended = nullptr;  // [max_step_tokens, padded_cols(q_dim)], permuted
  __half* ff = nullptr;        // [max_step_tokens, padded_cols(d_ff)], permuted, times kFfScale
  // A token of a step whose norms are folded (norm_fold.h) a row: max_folded_tokens() of them at most.
  float* squares = nullptr;               // [.., squares_stride(d_model)] of the residual
  float* scales[2] = {nullptr, nullptr};  // [..] of the activations of every other norm
  // A row of the step a row.
  int32_t* drawn = nullptr;     // [max_step_rows] the row's token, until the rows of the next step are sampled
  std::byte* output = nullptr;  // [max_step_output_bytes] what goes to the host (sampling.h)
  // A row of the slice being sampled a row: slice_rows of them at most.
  int slice_rows = 0;
  __half* head_x = nullptr;  // [slice_rows, padded_cols(d_model)] after the last norm, permuted
  float* hidden = nullptr;   // [slice_rows, d_model] the same as float32, where hidden rows are wanted
  float* logits = nullptr;   // [slice_rows, logits_stride(vocab_size)]
  SamplingScratch sampling;
  int32_t* resolved = nullptr;  // [max_step_tokens] the step's token ids, where penalties count them

  MatmulWorkspace matmul;
  AttentionScratch attention;
};

// Rows of a step at most: a token can be scored and followed by a draw.
constexpr int max_step_rows(const ExecutorLimits& limits) {
  return 2 * limits.max_step_tokens;
}

// Bytes of a step's output at most.
int64_t max_step_output_bytes(const ModelSpec& spec, const ExecutorLimits& limits);

// Bytes of the arena that make_workspace() takes from.
int64_t workspace_bytes(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                        const AttentionScratchSize& attention);

// arena: zeroed. The columns that pad the activations, and the counters, stay zero. matmul.gemm is left to the caller.
Workspace make_workspace(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                         const AttentionScratchSize& attention, DeviceArena& arena);

}  // namespace spate::cuda
