// Q6_K: 6-bit codes about 32; each 16 elements have a signed 8-bit scale. w = (d * scale) * (code - 32).
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ6_K> {
  static constexpr int kElems = kSuperblock;
  uint8_t ql[128];    // byte 64 h + l: low nibble element 128 h + l, high nibble element 128 h + 64 + l (bits 0..3)
  uint8_t qh[64];     // bits 2 g, 2 g + 1 of byte 32 h + l: bits 4 and 5 of element 128 h + 32 g + l
  int8_t scales[16];  // of elements 16 s .. 16 s + 15
  uint16_t d;         // f16

  constexpr int code(int i) const {
    const int low = (ql[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4)) & 15;
    return low | ((qh[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2)) & 3) << 4;
  }

  void decode(float* out) const {
    for (int s = 0; s < 16; ++s) {
      const float scale = f16_to_f32(d) * static_cast<float>(scales[s]);
      for (int i = 16 * s; i < 16 * s + 16; ++i) out[i] = scale * static_cast<float>(code(i) - 32);
    }
  }

  // code[256], each 0..63.
  void pack(const uint8_t* code) {
    for (int byte = 0; byte < 128; ++byte) {
      const uint8_t* first = code + byte / 64 * 128 + byte % 64;
      ql[byte] = static_cast<uint8_t>((first[0] & 15) | (first[64] & 15) << 4);
    }
    for (int byte = 0; byte < 64; ++byte) {
      const uint8_t* first = code + byte / 32 * 128 + byte % 32;
      qh[byte] = static_cast<uint8_t>(first[0] >> 4 | first[32] >> 4 << 2 | first[64] >> 4 << 4 | first[96] >> 4 << 6);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ6_K>) == 210);

}  // namespace spate
