#include "model/metadata_reader.h"

#include <algorithm>
#include <cmath>

#include "base/log.h"

namespace spate {

namespace {

// Larger than any model; small enough that products of two of them fit 64 bits with room to spare.
constexpr int kMaxLayers = 4096;
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxHeads = 1 << 14;
constexpr int kMaxVocab = 1 << 24;
constexpr int kMaxContext = 1 << 30;

}  // namespace

Error MetadataReader::missing(std::string_view name) const {
  return Error::bad_file(file_.path(), fmt::format("key '{}' is missing; a model of the architecture '{}' needs it",
                                                   key(name), architecture_));
}

Result<int> MetadataReader::integer(std::string_view name, int min, int max) const {
  SPATE_TRY(const std::optional<int64_t> value, file_.integer(key(name), min, max));
  if (!value) return missing(name);
  return static_cast<int>(*value);
}

Result<int> MetadataReader::integer_or(std::string_view name, int min, int max, int fallback) const {
  SPATE_TRY(const std::optional<int64_t> value, file_.integer(key(name), min, max));
  return static_cast<int>(value.value_or(fallback));
}

Result<float> MetadataReader::number_or(std::string_view name, float fallback) const {
  SPATE_TRY(const std::optional<double> value, file_.number(key(name)));
  if (!value) return fallback;
  const auto narrowed = static_cast<float>(*value);
  if (!std::isfinite(narrowed))
    return Error::bad_file(file_.path(), fmt::format("key '{}' is {}, out of float32's range", key(name), *value));
  return narrowed;
}

Result<float> MetadataReader::positive(std::string_view name) const {
  if (file_.find(key(name)) == nullptr) return missing(name);
  return positive_or(name, 1);
}

Result<float> MetadataReader::positive_or(std::string_view name, float fallback) const {
  SPATE_TRY(const float value, number_or(name, fallback));
  if (value <= 0)
    return Error::bad_file(file_.path(), fmt::format("key '{}' is {}; it must be positive", key(name), value));
  return value;
}

Result<void> MetadataReader::refuse_nonzero(std::string_view name, std::string_view what) const {
  const GgufValue* value = file_.find(key(name));
  if (value == nullptr) return {};
  if (!std::holds_alternative<GgufArray>(*value)) {
    SPATE_TRY(const float number, number_or(name, 0));
    if (number == 0) return {};
  }
  return Error::unsupported(
      fmt::format("{}: the model has {} (key '{}'), which spate does not run", file_.path(), what, key(name)));
}

Result<ModelSpec> MetadataReader::read_common() const {
  ModelSpec spec;
  spec.architecture = architecture_;
  SPATE_TRY_VOID(refuse_nonzero("expert_count", "a mixture of experts"));
  SPATE_TRY(spec.n_layers, integer("block_count", 1, kMaxLayers));
  SPATE_TRY(spec.d_model, integer("embedding_length", 1, kMaxWidth));
  SPATE_TRY(spec.d_ff, integer("feed_forward_length", 1, kMaxWidth));
  SPATE_TRY(spec.context_length, integer("context_length", 1, kMaxContext));
  SPATE_TRY(spec.norm_epsilon, positive("attention.layer_norm_rms_epsilon"));
  SPATE_TRY_VOID(read_heads(spec));
  SPATE_TRY_VOID(read_rope(spec));

  // Full attention equals windowed attention as long as the context fits the window, so a window only bounds the
  // context.
  SPATE_TRY(const int window, integer_or("attention.sliding_window", 0, kMaxContext, 0));
  if (window > 0 && window < spec.context_length) {
    log::warn("{}: the model has a sliding window of {} tokens; its context is limited to that", file_.path(), window);
    spec.context_length = window;
  }

  const GgufTensor* embedding = file_.find_tensor("token_embd.weight");
  if (embedding == nullptr) return Error::bad_file(file_.path(), "tensor 'token_embd.weight' is missing");
  if (embedding->dims[1] > kMaxVocab)
    return Error::bad_file(
        file_.path(), fmt::format("tensor 'token_embd.weight' has {} rows, over {}", embedding->dims[1], kMaxVocab));
  spec.vocab_size = static_cast<int>(embedding->dims[1]);
  SPATE_TRY(const GgufArray* tokens, file_.array("tokenizer.ggml.tokens"));
  if (tokens != nullptr && tokens->size != static_cast<uint64_t>(spec.vocab_size))
    return Error::bad_file(file_.path(),
                           fmt::format("the vocabulary has {} tokens but tensor 'token_embd.weight' has {} rows",
                                       tokens->size, spec.vocab_size));
  spec.tied_embeddings = file_.find_tensor("output.weight") == nullptr;
  return spec;
}

Result<void> MetadataReader::read_heads(ModelSpec& spec) const {
  SPATE_TRY(spec.n_heads, integer("attention.head_count", 1, kMaxHeads));
  SPATE_TRY(spec.n_kv_heads, integer_or("attention.head_count_kv", 1, kMaxHeads, spec.n_heads));
  if (spec.n_heads % spec.n_kv_heads != 0)
    return Error::bad_file(file_.path(), fmt::format("key '{}' is {}, which does not divide the {} heads",
                                                     key("attention.head_count_kv"), spec.n_kv_heads, spec.n_heads));
  if (file_.find(key("attention.key_length")) == nullptr && spec.d_model % spec.n_heads != 0)
    return Error::bad_file(file_.path(),
                           fmt::format("key '{}' is missing and {} heads do not divide the embedding length {}",
                                       key("attention.key_length"), spec.n_heads, spec.d_model));
  SPATE_TRY(spec.head_dim, integer_or("attention.key_length", 1, 4096, spec.d_model / spec.n_heads));
  SPATE_TRY(const int value_length, integer_or("attention.value_length", 1, 4096, spec.head_dim));
  if (value_length != spec.head_dim)
    return Error::unsupported(
        fmt::format("{}: keys of {} and values of {} elements (key '{}'): spate runs models where they are equal",
                    file_.path(), spec.head_dim, value_length, key("attention.value_length")));
  spec.attention_scale = 1 / std::sqrt(static_cast<float>(spec.head_dim));
  return {};
}

Result<void> MetadataReader::read_rope(ModelSpec& spec) const {
  RopeSpec& rope = spec.rope;
  SPATE_TRY(rope.rotary_dim, integer_or("rope.dimension_count", 2, 4096, spec.head_dim));
  if (rope.rotary_dim > spec.head_dim || rope.rotary_dim % 2 != 0)
    return Error::bad_file(file_.path(), fmt::format("key '{}' is {}; it must be even and at most the head size {}",
                                                     key("rope.dimension_count"), rope.rotary_dim, spec.head_dim));
  SPATE_TRY(rope.base, positive_or("rope.freq_base", 10000));
  rope.original_context = spec.context_length;
  SPATE_TRY_VOID(read_rope_scaling(rope));
  return read_frequency_divisors(rope);
}

Result<void> MetadataReader::read_rope_scaling(RopeSpec& rope) const {
  SPATE_TRY(const auto stated, file_.string(key("rope.scaling.type")));
  // Files from before rope.scaling.type state a linear factor alone.
  SPATE_TRY(const float legacy, positive_or("rope.scale_linear", 1));
  const std::string_view type = stated.value_or(legacy != 1 ? "linear" : "none");
  SPATE_TRY(const float factor, positive_or("rope.scaling.factor", legacy));
  SPATE_TRY(rope.original_context,
            integer_or("rope.scaling.original_context_length", 1, kMaxContext, rope.original_context));
  if (type == "none") return {};
  if (type == "linear") {
    rope.frequency_scale = 1 / factor;
    return {};
  }
  if (type == "yarn") {
    rope.yarn_factor = factor;
    SPATE_TRY(rope.yarn_beta_fast, positive_or("rope.scaling.yarn_beta_fast", 32));
    SPATE_TRY(rope.yarn_beta_slow, positive_or("rope.scaling.yarn_beta_slow", 1));
    SPATE_TRY(const float attention_factor, positive_or("rope.scaling.attn_factor", 1));
    // YaRN, section 3.4: the softmax temperature, as a factor of both queries and keys.
    rope.magnitude = attention_factor * (factor > 1 ? 0.1f * std::log(factor) + 1 : 1);
    return {};
  }
  return Error::unsupported(fmt::format("{}: RoPE scaling '{}' (key '{}'): spate runs none, linear, yarn and llama3's",
                                        file_.path(), type, key("rope.scaling.type")));
}

Result<void> MetadataReader::read_frequency_divisors(RopeSpec& rope) const {
  const GgufTensor* tensor = file_.find_tensor("rope_freqs.weight");
  if (tensor == nullptr) return {};
  if (tensor->type != QuantType::kF32 || tensor->n_elems() != rope.rotary_dim / 2)
    return Error::bad_file(
        file_.path(),
        fmt::format("tensor 'rope_freqs.weight' must be {} elements of F32, one a rotated pair", rope.rotary_dim / 2));
  rope.frequency_divisors.resize(tensor->n_elems());
  quant_traits(tensor->type).decode(tensor->data.data(), tensor->n_elems(), rope.frequency_divisors.data());
  const auto usable = [](float divisor) { return std::isfinite(divisor) && divisor > 0; };
  if (!std::all_of(rope.frequency_divisors.begin(), rope.frequency_divisors.end(), usable))
    return Error::bad_file(file_.path(), "tensor 'rope_freqs.weight' holds a divisor that is not a positive number");
  return {};
}

Result<bool> MetadataReader::every_layer_has(std::string_view suffix, int n_layers) const {
  int n_found = 0;
  for (int layer = 0; layer < n_layers; ++layer)
    n_found += file_.find_tensor(fmt::format("blk.{}.{}", layer, suffix)) != nullptr;
  if (n_found == 0 || n_found == n_layers) return n_found != 0;
  return Error::bad_file(file_.path(),
                         fmt::format("tensor 'blk.N.{}' is there for {} of {} layers", suffix, n_found, n_layers));
}

}  // namespace spate
