// Qwen2 and Qwen2.5 (bias on Q, K and V) and Qwen3 (RMSNorm over each head of Q and K instead), dense models.
#include "model/metadata_reader.h"

namespace spate {

Result<ModelSpec> read_qwen2(MetadataReader& reader) {
  SPATE_TRY(ModelSpec spec, reader.read_common());
  spec.rope.style = RopeStyle::kNeox;
  spec.has_qkv_bias = true;
  return spec;
}

Result<ModelSpec> read_qwen3(MetadataReader& reader) {
  SPATE_TRY(ModelSpec spec, reader.read_common());
  spec.rope.style = RopeStyle::kNeox;
  spec.has_qk_norm = true;
  return spec;
}

}  // namespace spate
