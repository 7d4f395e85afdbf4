// The buffers that a step computes in, taken once for the largest step. Each says which rows it holds and when; none is
// used for two things.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/attention_plan.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/matmul.h"
#include "backend/executor.h"
#include "model/model_spec.h"

namespace spate::cuda {

struct Workspace {
  // A token of the step a row.
  float* residual = nullptr;   // [max_step_tokens, d_model]
  __half* normed = nullptr;    // [max_step_tokens, padded_cols(d_model)], permuted (activations.h)
  float* qkv = nullptr;        // [max_step_tokens, q_dim + 2 kv_dim]
  __half* q = nullptr;         // [max_step_tokens, q_dim], RoPE applied
  __half* attended = nullptr;  // [max_step_tokens, padded_cols(q_dim)], permuted
  __half* ff = nullptr;        // [max_step_tokens, padded_cols(d_ff)], permuted, times kFfScale
  // A row of the step a row.
  __half* head_x = nullptr;  // [max_step_tokens, padded_cols(d_model)] after the last norm, permuted
  float* hidden[kMaxStepsInFlight] =
      {};  // [max_step_tokens, d_model] the same as float32, where hidden rows are wanted
  // A row of the slice being sampled a row.
  float* logits = nullptr;  // [logits_rows, vocab_size]
  int logits_rows = 0;

  MatmulWorkspace matmul;
  AttentionScratch attention;
};

// Rows whose logits are computed at a time: as many as 256 MB hold, so that a slice is long enough for the head's
// weights to be read at full speed.
int logits_slice_rows(int vocab_size, int max_rows);

// Bytes of the arena that make_workspace() takes from.
int64_t workspace_bytes(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                        const AttentionScratchSize& attention);

// arena: zeroed; the columns that pad the activations, and the counters, stay zero.
Workspace make_workspace(const ModelSpec& spec, const ExecutorLimits& limits, const DeviceProfile& profile,
                         const AttentionScratchSize& attention, DeviceArena& arena);

}  // namespace spate::cuda
