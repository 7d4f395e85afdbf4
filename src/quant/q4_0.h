// Q4_0: 4-bit codes about 8, one scale. w = d * (code - 8).
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ4_0> {
  static constexpr int kElems = kSubblock;
  uint16_t d;      // f16
  uint8_t qs[16];  // low nibbles: elements 0..15; high nibbles: 16..31

  void decode(float* out) const {
    const float scale = f16_to_f32(d);
    for (int i = 0; i < 16; ++i) {
      out[i] = static_cast<float>((qs[i] & 15) - 8) * scale;
      out[i + 16] = static_cast<float>((qs[i] >> 4) - 8) * scale;
    }
  }

  // code[32], each 0..15.
  void pack(const uint8_t* code) {
    for (int i = 0; i < 16; ++i) qs[i] = static_cast<uint8_t>(code[i] | code[i + 16] << 4);
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ4_0>) == 18);

}  // namespace spate
