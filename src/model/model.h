// A model file bound to its meaning: the spec, and which tensor is which weight.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "gguf/gguf_file.h"
#include "model/model_spec.h"

namespace spate {

// A matrix [n_rows, n_cols] whose rows are whole qblocks, or a vector (n_rows = 1), in the file's mapping.
struct Weight {
  const GgufTensor* tensor = nullptr;  // null: the model has no such weight
  int64_t n_rows = 0;
  int64_t n_cols = 0;

  explicit operator bool() const { return tensor != nullptr; }
  QuantType type() const { return tensor->type; }
  int64_t row_bytes() const { return quant_bytes(type(), n_cols); }
  const std::byte* row(int64_t index) const { return tensor->data.data() + index * row_bytes(); }
};

struct LayerWeights {
  Weight attn_norm;                              // [d_model]
  Weight attn_q, attn_k, attn_v;                 // [q_dim | kv_dim | kv_dim, d_model]
  Weight attn_q_bias, attn_k_bias, attn_v_bias;  // [q_dim | kv_dim | kv_dim], where has_qkv_bias
  Weight attn_q_norm, attn_k_norm;               // [head_dim], where has_qk_norm
  Weight attn_output;                            // [d_model, q_dim]
  Weight ffn_norm;                               // [d_model]
  Weight ffn_gate, ffn_up;                       // [d_ff, d_model]
  Weight ffn_down;                               // [d_model, d_ff]
};

class Model {
 public:
  // Reads the spec and binds every weight that it calls for. Error kBadFile: a tensor missing or of another shape, or
  // the vocabulary's size differs from the embedding's rows; kUnsupported: an architecture, a tensor type, no tensors,
  // or a tensor that the architecture does not use (by name: running without it would give wrong numbers).
  static Result<std::shared_ptr<const Model>> open(const std::string& path);
  static Result<std::shared_ptr<const Model>> bind(GgufFile file);

  const GgufFile& file() const { return file_; }
  const ModelSpec& spec() const { return spec_; }
  const Weight& token_embedding() const { return token_embedding_; }  // [vocab_size, d_model]
  const Weight& output_norm() const { return output_norm_; }          // [d_model]
  const Weight& output() const { return output_; }                    // [vocab_size, d_model]; the embedding where tied
  const std::vector<LayerWeights>& layers() const { return layers_; }  // [n_layers]

  // Bytes of weights that decoding one token reads: every matrix once, the embedding only as the LM head.
  int64_t weight_bytes_per_token() const;

 private:
  explicit Model(GgufFile file) : file_(std::move(file)) {}

  GgufFile file_;
  ModelSpec spec_;
  Weight token_embedding_, output_norm_, output_;
  std::vector<LayerWeights> layers_;
};

// The values of a vector weight (F32, F16 or BF16), as float32.
std::vector<float> vector_values(const Weight& weight);

}  // namespace spate
