// A model's weights as the CPU backend computes with them.
#pragma once

#include <functional>
#include <vector>

#include "backend/cpu/linear.h"
#include "model/model.h"

namespace spate::cpu {

struct CpuLayer {
  std::vector<float> attn_norm, ffn_norm;     // [d_model]
  std::vector<float> q_bias, k_bias, v_bias;  // [q_dim | kv_dim | kv_dim], empty without bias
  std::vector<float> q_norm, k_norm;          // [head_dim], empty without QK-norm
  PackedMatrix q, k, v, attn_output, gate, up, down;
};

struct CpuWeights {
  std::vector<CpuLayer> layers;
  std::vector<float> output_norm;  // [d_model]
  PackedMatrix output;             // [vocab_size, d_model]
};

// Re-lays the matrices one by one, giving back the pages of the file that each came from; or, without repack, borrows
// them.
CpuWeights load_weights(const Model& model, bool repack, ThreadPool& pool, const std::function<void(double)>& progress);

}  // namespace spate::cpu
