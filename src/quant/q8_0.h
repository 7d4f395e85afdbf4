// Q8_0: signed 8-bit codes, one scale. w = d * code.
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ8_0> {
  static constexpr int kElems = kSubblock;
  uint16_t d;  // f16
  int8_t qs[32];

  void decode(float* out) const {
    const float scale = f16_to_f32(d);
    for (int i = 0; i < kElems; ++i) out[i] = static_cast<float>(qs[i]) * scale;
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ8_0>) == 34);

}  // namespace spate
