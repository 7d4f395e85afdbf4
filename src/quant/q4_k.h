// Q4_K: 4-bit codes; each 32 elements have a 6-bit scale and a 6-bit minimum. w = (d * scale) * code - dmin * min.
#pragma once

#include "quant/k_scales.h"
#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ4_K> {
  static constexpr int kElems = kSuperblock;
  uint16_t d, dmin;  // f16
  KScales scales;    // of elements 32 s .. 32 s + 31
  uint8_t qs[128];   // byte 32 h + l: low nibble element 64 h + l, high nibble element 64 h + 32 + l

  constexpr int code(int i) const { return (qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4)) & 15; }

  void decode(float* out) const {
    for (int s = 0; s < 8; ++s) {
      const float scale = f16_to_f32(d) * static_cast<float>(scales.scale(s));
      const float minimum = f16_to_f32(dmin) * static_cast<float>(scales.minimum(s));
      for (int i = 32 * s; i < 32 * s + 32; ++i) out[i] = scale * static_cast<float>(code(i)) - minimum;
    }
  }

  // code[256], each 0..15.
  void pack(const uint8_t* code) {
    for (int byte = 0; byte < 128; ++byte) {
      const uint8_t* first = code + byte / 32 * 64 + byte % 32;
      qs[byte] = static_cast<uint8_t>(first[0] | first[32] << 4);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ4_K>) == 144);

}  // namespace spate
