// A model's weights on the device.
#pragma once

#include <functional>
#include <vector>

#include "backend/cuda/device_memory.h"
#include "backend/cuda/matmul.h"
#include "model/model.h"

namespace spate::cuda {

// Device pointers into CudaWeights::memory.
struct CudaLayer {
  const float* attn_norm = nullptr;  // [d_model]
  const float* ffn_norm = nullptr;   // [d_model]
  const float* qkv_bias = nullptr;   // [q_dim + 2 kv_dim]; null without bias
  const float* q_norm = nullptr;     // [head_dim]; null without QK-norm, and k_norm too
  const float* k_norm = nullptr;     // [head_dim]
  PackedMatrix q, k, v, attn_output, gate, up, down;
};

struct CudaWeights {
  DeviceArena memory;
  std::vector<CudaLayer> layers;
  const float* output_norm = nullptr;    // [d_model]
  const float* frequencies = nullptr;    // [rotary_dim / 2] angle per position (RopeSpec::frequencies)
  PackedMatrix output;                   // [vocab_size, d_model]
  const std::byte* embedding = nullptr;  // [vocab_size] rows as in the file
  QuantType embedding_type{};
  int64_t embedding_row_bytes = 0;
};

// The matrices of all layers.
std::vector<PackedMatrix*> layer_matrices(CudaWeights& weights);

// Bytes that load_weights() takes of the device. Where the head is tied to the embedding, that matrix is there twice:
// in tiles for the head, in rows for the embedding.
int64_t weight_memory_bytes(const Model& model);

// n_threads: of the host, to read with. progress: in [0, 1]; may be null. Throws CudaError.
CudaWeights load_weights(const Model& model, int n_threads, const std::function<void(double)>& progress);

}  // namespace spate::cuda
