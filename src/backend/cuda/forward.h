// The forward pass: which kernels run for a step, in which order, over which buffers. Everything is launched on one
// stream and may be captured; what changes from step to step stands in device memory (DeviceBatch).
#pragma once

#include <cuda_runtime_api.h>
#include <span>

#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/step_block.h"
#include "backend/cuda/workspace.h"

namespace spate::cuda {

// What the passes of one shape of step work on; whoever makes it owns what it points to.
struct ForwardContext {
  const ModelSpec& spec;
  const CudaWeights& weights;
  const Workspace& workspace;
  const DeviceProfile& profile;
  std::span<const KvLayer> kv;  // [n_layers]
  DeviceSlots slots;
  DeviceStep step;
  cudaStream_t stream;
};

// Embeds n_tokens tokens and runs all layers on them: workspace.residual holds the result. n_tokens may count padding.
void run_layers(const ForwardContext& context, int n_tokens, const AttentionGrid& grid);

// After the layers: the last norm, the head and the sampling of the rows planned, slice by slice; what goes to the host
// is left in workspace.output, the tokens drawn in workspace.drawn. n_tokens may count padding.
void run_rows(const ForwardContext& context, const RowPlan& plan, int n_tokens);

}  // namespace spate::cuda
