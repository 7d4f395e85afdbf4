#include "support/random_model.h"

#include <cmath>
#include <fmt/core.h>
#include <random>

#include "support/random_weights.h"

namespace spate::testing {

namespace {

class Builder {
 public:
  explicit Builder(const RandomModel& model) : model_(model), random_(model.seed) {}

  GgufWriter build() {
    metadata();
    const int q_dim = model_.n_heads * model_.head_dim, kv_dim = model_.n_kv_heads * model_.head_dim;
    const bool qwen2 = model_.architecture == "qwen2", qwen3 = model_.architecture == "qwen3";
    matrix("token_embd.weight", model_.d_model, model_.vocab_size);
    vector("output_norm.weight", model_.d_model, 1, 0.2f);
    if (!model_.tied) matrix("output.weight", model_.d_model, model_.vocab_size);
    if (model_.rope_divisors) vector("rope_freqs.weight", rotary_dim() / 2, 3, 0.5f);
    for (int layer = 0; layer < model_.n_layers; ++layer) {
      const std::string prefix = fmt::format("blk.{}.", layer);
      vector(prefix + "attn_norm.weight", model_.d_model, 1, 0.2f);
      matrix(prefix + "attn_q.weight", model_.d_model, q_dim);
      matrix(prefix + "attn_k.weight", model_.d_model, kv_dim);
      matrix(prefix + "attn_v.weight", model_.d_model, kv_dim);
      if (qwen2) {
        vector(prefix + "attn_q.bias", q_dim, 0, 1);
        vector(prefix + "attn_k.bias", kv_dim, 0, 1);
        vector(prefix + "attn_v.bias", kv_dim, 0, 1);
      }
      if (qwen3) {
        vector(prefix + "attn_q_norm.weight", model_.head_dim, 1, 0.3f);
        vector(prefix + "attn_k_norm.weight", model_.head_dim, 1, 0.3f);
      }
      matrix(prefix + "attn_output.weight", q_dim, model_.d_model);
      vector(prefix + "ffn_norm.weight", model_.d_model, 1, 0.2f);
      matrix(prefix + "ffn_gate.weight", model_.d_model, model_.d_ff);
      matrix(prefix + "ffn_up.weight", model_.d_model, model_.d_ff);
      matrix(prefix + "ffn_down.weight", model_.d_ff, model_.d_model);
    }
    return std::move(writer_);
  }

 private:
  int rotary_dim() const { return model_.rotary_dim > 0 ? model_.rotary_dim : model_.head_dim; }

  void metadata() {
    const auto set = [&](const std::string& key, auto value) { writer_.set(model_.architecture + "." + key, value); };
    writer_.set("general.architecture", model_.architecture);
    set("block_count", static_cast<uint32_t>(model_.n_layers));
    set("context_length", static_cast<uint32_t>(model_.context_length));
    set("embedding_length", static_cast<uint32_t>(model_.d_model));
    set("feed_forward_length", static_cast<uint32_t>(model_.d_ff));
    set("attention.head_count", static_cast<uint32_t>(model_.n_heads));
    set("attention.head_count_kv", static_cast<uint32_t>(model_.n_kv_heads));
    set("attention.key_length", static_cast<uint32_t>(model_.head_dim));
    set("attention.value_length", static_cast<uint32_t>(model_.head_dim));
    set("attention.layer_norm_rms_epsilon", 1e-6f);
    set("rope.freq_base", 10000.0f);
    set("rope.dimension_count", static_cast<uint32_t>(rotary_dim()));
  }

  void vector(const std::string& name, int n, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(n);
    for (float& value : values)
      value = name == "rope_freqs.weight" ? std::abs(normal(random_)) + 0.5f : normal(random_);
    writer_.add_tensor(name, {n}, values);
  }

  // Weights of about zero mean that keep the size of what they multiply.
  void matrix(const std::string& name, int n_cols, int n_rows) {
    QuantType type = model_.types[n_matrices_++ % model_.types.size()];
    if (n_cols % quant_traits(type).block_elems != 0) type = n_cols % 32 == 0 ? QuantType::kQ8_0 : QuantType::kF16;
    std::vector<std::byte> weights = random_weights(type, n_rows, n_cols, static_cast<uint32_t>(random_()));
    set_deviation(type, 1 / std::sqrt(static_cast<double>(n_cols)), weights);
    writer_.add_tensor(name, type, {n_cols, n_rows}, std::move(weights));
  }

  const RandomModel& model_;
  std::mt19937 random_;
  GgufWriter writer_;
  size_t n_matrices_ = 0;
};

}  // namespace

GgufWriter random_model(const RandomModel& model) {
  return Builder(model).build();
}

}  // namespace spate::testing
