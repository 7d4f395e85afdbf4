// What the readers of architectures share: a model's hyper-parameters by their keys, range-checked.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "gguf/gguf_file.h"
#include "model/model_spec.h"

namespace spate {

// Keys are given without the architecture's prefix: "block_count" reads "llama.block_count".
class MetadataReader {
 public:
  MetadataReader(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  const GgufFile& file() const { return file_; }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }

  // Error kBadFile: out of range, of another type, or (without a fallback) missing.
  Result<int> integer(std::string_view name, int min, int max) const;
  Result<int> integer_or(std::string_view name, int min, int max, int fallback) const;
  Result<float> number_or(std::string_view name, float fallback) const;
  Result<float> positive(std::string_view name) const;
  Result<float> positive_or(std::string_view name, float fallback) const;

  // Error kUnsupported naming the key and `what`, if the key is there with a value other than 0.
  Result<void> refuse_nonzero(std::string_view name, std::string_view what) const;

  // The hyper-parameters that every decoder of this family has: sizes, heads, norm, RoPE and its scaling, context. The
  // RoPE style and the capabilities are left for the architecture to set.
  Result<ModelSpec> read_common() const;

  // True if every layer has the tensor blk.N.<suffix>, false if none has. Error kBadFile if only some have.
  Result<bool> every_layer_has(std::string_view suffix, int n_layers) const;

 private:
  Error missing(std::string_view name) const;
  Result<void> read_heads(ModelSpec& spec) const;
  Result<void> read_rope(ModelSpec& spec) const;
  Result<void> read_rope_scaling(RopeSpec& rope) const;
  Result<void> read_frequency_divisors(RopeSpec& rope) const;

  const GgufFile& file_;
  std::string architecture_;
};

Result<ModelSpec> read_llama(MetadataReader& reader);
Result<ModelSpec> read_qwen2(MetadataReader& reader);
Result<ModelSpec> read_qwen3(MetadataReader& reader);

}  // namespace spate
