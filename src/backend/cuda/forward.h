// The forward pass: which kernels run for a step, in which order, over which buffers. Everything is launched on one
// stream and may be captured; what changes from step to step stands in device memory (DeviceBatch).
#pragma once

#include <cuda_runtime_api.h>
#include <span>

#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/workspace.h"

namespace spate::cuda {

// Everything that stays the same from step to step; whoever makes it owns what it points to.
struct ForwardContext {
  const ModelSpec& spec;
  const CudaWeights& weights;
  const Workspace& workspace;
  const DeviceProfile& profile;
  std::span<const KvLayer> kv;  // [n_layers]
  DeviceBatch batch;
  AttentionWork attention_work;
  const int32_t* previous_tokens;  // [max_step_tokens] drawn by the step before, a row each
  const int32_t* row_tokens;       // [max_step_tokens] the token that each row follows; negative for padding
  cudaStream_t stream;
};

// Embeds n_tokens tokens and runs all layers on them: workspace.residual holds the result. n_tokens may count padding.
void run_layers(const ForwardContext& context, int n_tokens, const AttentionGrid& grid);

// The last norm of the n_rows rows: workspace.head_x and, unless null, hidden [n_rows, d_model].
void gather_rows(const ForwardContext& context, int n_rows, float* hidden);

// workspace.logits[n, vocab_size] of rows [first, first + n) gathered.
void row_logits(const ForwardContext& context, int first, int n);

}  // namespace spate::cuda
