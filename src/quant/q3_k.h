// Q3_K: 3-bit codes about 4; each 16 elements have a 6-bit scale about 32. w = (d * (scale - 32)) * (code - 4).
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ3_K> {
  static constexpr int kElems = kSuperblock;
  uint8_t hmask[32];   // bit g of byte l: bit 2 of element 32 g + l
  uint8_t qs[64];      // bits 2 g, 2 g + 1 of byte 32 h + l: bits 0 and 1 of element 128 h + 32 g + l
  uint8_t scales[12];  // bits 0..3 of scale s: nibble s / 8 of byte s % 8; bits 4, 5: bits 2 (s / 4) of byte 8 + s % 4
  uint16_t d;          // f16

  // 0..63, of elements 16 s .. 16 s + 15; the scale is d * (scale_code(s) - 32).
  constexpr int scale_code(int s) const {
    return ((scales[s % 8] >> (s / 8 * 4)) & 15) | ((scales[8 + s % 4] >> (s / 4 * 2)) & 3) << 4;
  }

  void set_scale_code(int s, int code) {
    scales[s % 8] = static_cast<uint8_t>((scales[s % 8] & ~(15 << (s / 8 * 4))) | (code & 15) << (s / 8 * 4));
    scales[8 + s % 4] = static_cast<uint8_t>((scales[8 + s % 4] & ~(3 << (s / 4 * 2))) | (code >> 4) << (s / 4 * 2));
  }

  constexpr int code(int i) const {
    return ((qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2)) & 3) | ((hmask[i % 32] >> (i / 32)) & 1) << 2;
  }

  void decode(float* out) const {
    for (int s = 0; s < 16; ++s) {
      const float scale = f16_to_f32(d) * static_cast<float>(scale_code(s) - 32);
      for (int i = 16 * s; i < 16 * s + 16; ++i) out[i] = scale * static_cast<float>(code(i) - 4);
    }
  }

  // code[256], each 0..7.
  void pack(const uint8_t* code) {
    for (int byte = 0; byte < 64; ++byte) {
      const uint8_t* first = code + byte / 32 * 128 + byte % 32;
      qs[byte] =
          static_cast<uint8_t>((first[0] & 3) | (first[32] & 3) << 2 | (first[64] & 3) << 4 | (first[96] & 3) << 6);
    }
    for (int byte = 0; byte < 32; ++byte) {
      hmask[byte] = 0;
      for (int bit = 0; bit < 8; ++bit) hmask[byte] |= static_cast<uint8_t>((code[32 * bit + byte] >> 2) << bit);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ3_K>) == 110);

}  // namespace spate
