#include "backend/cuda/cuda_weights.h"

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/weight_upload.h"

namespace spate::cuda {

namespace {

// Walks a model's weights in one order, for counting bytes and for loading alike: what is counted is what is taken.
template <typename Matrix, typename Vector, typename Rows>
void visit(const Model& model, CudaWeights& weights, const Matrix& matrix, const Vector& vector, const Rows& rows) {
  weights.layers.resize(model.layers().size());
  rows(model.token_embedding(), weights.embedding);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& from = model.layers()[i];
    CudaLayer& to = weights.layers[i];
    vector({&from.attn_norm}, to.attn_norm);
    vector({&from.attn_q_bias, &from.attn_k_bias, &from.attn_v_bias}, to.qkv_bias);
    vector({&from.attn_q_norm}, to.q_norm);
    vector({&from.attn_k_norm}, to.k_norm);
    matrix(from.attn_q, to.q);
    matrix(from.attn_k, to.k);
    matrix(from.attn_v, to.v);
    matrix(from.attn_output, to.attn_output);
    vector({&from.ffn_norm}, to.ffn_norm);
    matrix(from.ffn_gate, to.gate);
    matrix(from.ffn_up, to.up);
    matrix(from.ffn_down, to.down);
  }
  vector({&model.output_norm()}, weights.output_norm);
  matrix(model.output(), weights.output);
}

using Parts = std::vector<const Weight*>;

int64_t n_elems(const Parts& parts) {
  int64_t n = 0;
  for (const Weight* part : parts)
    if (*part) n += part->n_rows * part->n_cols;
  return n;
}

int64_t frequency_bytes(const Model& model) {
  return aligned(model.spec().rope.rotary_dim / 2 * static_cast<int64_t>(sizeof(float)));
}

void copy_values(std::span<const float> values, float* to) {
  SPATE_CUDA(cudaMemcpy(to, values.data(), values.size_bytes(), cudaMemcpyHostToDevice), "copying {} floats",
             values.size());
}

}  // namespace

std::vector<PackedMatrix*> layer_matrices(CudaWeights& weights) {
  std::vector<PackedMatrix*> all;
  for (CudaLayer& layer : weights.layers)
    for (PackedMatrix* matrix : {&layer.q, &layer.k, &layer.v, &layer.attn_output, &layer.gate, &layer.up, &layer.down})
      all.push_back(matrix);
  return all;
}

int64_t weight_memory_bytes(const Model& model) {
  CudaWeights nowhere;
  int64_t total = frequency_bytes(model);
  visit(
      model, nowhere,
      [&](const Weight& weight, PackedMatrix&) {
        total += aligned(packed_bytes(weight.type(), weight.n_rows, weight.n_cols));
      },
      [&](const Parts& parts, const float*&) {
        total += aligned(n_elems(parts) * static_cast<int64_t>(sizeof(float)));
      },
      [&](const Weight& weight, const std::byte*&) { total += aligned(weight.n_rows * weight.row_bytes()); });
  return total;
}

CudaWeights load_weights(const Model& model, int n_threads, const std::function<void(double)>& progress) {
  CudaWeights weights;
  weights.memory = DeviceArena("the weights", weight_memory_bytes(model), false);
  DeviceArena& memory = weights.memory;
  WeightUpload upload(model, n_threads);
  visit(
      model, weights,
      [&](const Weight& weight, PackedMatrix& packed) {
        auto* tiles = memory.take<std::byte>(packed_bytes(weight.type(), weight.n_rows, weight.n_cols));
        upload.add_matrix(weight, tiles, packed);
      },
      [&](const Parts& parts, const float*& device) {
        std::vector<float> values;
        for (const Weight* part : parts) {
          if (!*part) continue;
          const std::vector<float> more = vector_values(*part);
          values.insert(values.end(), more.begin(), more.end());
        }
        if (values.empty()) return;
        auto* to = memory.take<float>(static_cast<int64_t>(values.size()));
        copy_values(values, to);
        device = to;
      },
      [&](const Weight& weight, const std::byte*& device) {
        auto* to = memory.take<std::byte>(weight.n_rows * weight.row_bytes());
        upload.add_rows(weight, to);
        device = to;
      });
  weights.embedding_type = model.token_embedding().type();
  weights.embedding_row_bytes = model.token_embedding().row_bytes();
  const std::vector<float> frequencies = model.spec().rope.frequencies();
  auto* device_frequencies = memory.take<float>(static_cast<int64_t>(frequencies.size()));
  copy_values(frequencies, device_frequencies);
  weights.frequencies = device_frequencies;
  upload.run(progress);
  return weights;
}

}  // namespace spate::cuda
