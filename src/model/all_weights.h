// What is counted or summed over all of a model's weights alike.
#pragma once

#include <array>

#include "model/model.h"

namespace spate {

// Every weight of a layer; those that the model does not have are null Weights.
inline std::array<const Weight*, 14> all_weights(const LayerWeights& layer) {
  return {&layer.attn_norm,   &layer.attn_q,      &layer.attn_k,      &layer.attn_v,      &layer.attn_q_bias,
          &layer.attn_k_bias, &layer.attn_v_bias, &layer.attn_q_norm, &layer.attn_k_norm, &layer.attn_output,
          &layer.ffn_norm,    &layer.ffn_gate,    &layer.ffn_up,      &layer.ffn_down};
}

}  // namespace spate
