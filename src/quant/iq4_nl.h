// IQ4_NL: 4-bit indices into a fixed table of unevenly spaced levels, one scale. w = d * kIq4Levels[index].
#pragma once

#include "quant/qblock.h"

namespace spate {

inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

template <>
struct Qblock<QuantType::kIQ4_NL> {
  static constexpr int kElems = kSubblock;
  uint16_t d;      // f16
  uint8_t qs[16];  // low nibbles: elements 0..15; high nibbles: 16..31

  void decode(float* out) const {
    const float scale = f16_to_f32(d);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * static_cast<float>(kIq4Levels[qs[i] & 15]);
      out[i + 16] = scale * static_cast<float>(kIq4Levels[qs[i] >> 4]);
    }
  }

  // code[32], each 0..15.
  void pack(const uint8_t* code) {
    for (int i = 0; i < 16; ++i) qs[i] = static_cast<uint8_t>(code[i] | code[i + 16] << 4);
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kIQ4_NL>) == 18);

}  // namespace spate
