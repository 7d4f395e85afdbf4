// ModelSpec: everything a backend needs to know about a decoder, as capabilities. No backend ever asks for a model's
// name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "gguf/gguf_file.h"

namespace spate {

enum class RopeStyle {
  kNorm,  // rotates the pairs (2i, 2i + 1)
  kNeox,  // rotates the pairs (i, i + rotary_dim / 2)
};

// Rotary position embedding (Su et al. 2021): the angle of pair i at position p is p * base^(-2i / rotary_dim), changed
// by the scaling below.
struct RopeSpec {
  RopeStyle style = RopeStyle::kNorm;
  int rotary_dim = 0;  // leading elements of a head that rotate; even, at most head_dim
  float base = 10000;
  float frequency_scale = 1;  // linear scaling (Chen et al. 2023): every frequency times this, 1 / factor
  // YaRN (Peng et al. 2023), when yarn_factor > 1: frequencies ramp between scaled and unscaled from beta_slow to
  // beta_fast rotations over original_context; queries and keys are multiplied by `magnitude`.
  float yarn_factor = 1, yarn_beta_fast = 32, yarn_beta_slow = 1;
  int original_context = 0;
  float magnitude = 1;
  // [rotary_dim / 2] divisors of the frequencies, as llama 3.1 and later carry them in rope_freqs.weight; empty means
  // ones.
  std::vector<float> frequency_divisors = {};

  // [rotary_dim / 2] angle per position of each pair, all of the above applied.
  std::vector<float> frequencies() const;
};

enum class Activation { kSilu };

struct ModelSpec {
  std::string architecture;  // for messages only
  int n_layers = 0;
  int d_model = 0;
  int d_ff = 0;
  int n_heads = 0;
  int n_kv_heads = 0;  // divides n_heads
  int head_dim = 0;    // of queries, keys and values
  int vocab_size = 0;
  int context_length = 0;  // trained positions
  float norm_epsilon = 1e-6f;
  float attention_scale = 0;                  // of q.k before the softmax
  Activation activation = Activation::kSilu;  // of the gate: down(act(gate x) * up x)
  RopeSpec rope;
  bool has_qkv_bias = false;     // attn_{q,k,v}.bias
  bool has_qk_norm = false;      // an RMSNorm over each head of q and k, before RoPE
  bool tied_embeddings = false;  // the LM head is the embedding matrix

  int gqa_group() const { return n_heads / n_kv_heads; }
  int q_dim() const { return n_heads * head_dim; }
  int kv_dim() const { return n_kv_heads * head_dim; }
  // Elements of keys and values that one token leaves in the cache, all layers.
  int64_t kv_elems_per_token() const { return int64_t{2} * n_layers * kv_dim(); }
};

// Maps the metadata of a file to its spec, by general.architecture. Error kUnsupported: an architecture without a row
// in model/architectures.def, or a feature of it that spate does not run; kBadFile: a key missing, out of range or
// inconsistent.
Result<ModelSpec> read_model_spec(const GgufFile& file);

}  // namespace spate
