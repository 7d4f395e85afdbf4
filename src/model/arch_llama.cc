// Llama 1 to 3.3, Mistral and the many models of their shape. Their converters permute the rows of Q and K so that
// rotated pairs are neighbours; llama 3.1's frequency scaling comes as the tensor rope_freqs.weight.
#include "model/metadata_reader.h"

namespace spate {

Result<ModelSpec> read_llama(MetadataReader& reader) {
  SPATE_TRY(ModelSpec spec, reader.read_common());
  spec.rope.style = RopeStyle::kNorm;
  SPATE_TRY(spec.has_qkv_bias, reader.every_layer_has("attn_q.bias", spec.n_layers));
  return spec;
}

}  // namespace spate
