// Q2_K: 2-bit codes; each 16 elements have a 4-bit scale and a 4-bit minimum. w = (d * scale) * code - dmin * min.
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ2_K> {
  static constexpr int kElems = kSuperblock;
  uint8_t scales[16];  // of elements 16 s .. 16 s + 15: low nibble scale, high nibble minimum
  uint8_t qs[64];      // bits 2 g, 2 g + 1 of byte 32 h + l: element 128 h + 32 g + l
  uint16_t d, dmin;    // f16

  constexpr int code(int i) const { return (qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2)) & 3; }

  void decode(float* out) const {
    for (int s = 0; s < 16; ++s) {
      const float scale = f16_to_f32(d) * static_cast<float>(scales[s] & 15);
      const float minimum = f16_to_f32(dmin) * static_cast<float>(scales[s] >> 4);
      for (int i = 16 * s; i < 16 * s + 16; ++i) out[i] = scale * static_cast<float>(code(i)) - minimum;
    }
  }

  // code[256], each 0..3.
  void pack(const uint8_t* code) {
    for (int byte = 0; byte < 64; ++byte) {
      const uint8_t* first = code + byte / 32 * 128 + byte % 32;
      qs[byte] = static_cast<uint8_t>(first[0] | first[32] << 2 | first[64] << 4 | first[96] << 6);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ2_K>) == 84);

}  // namespace spate
