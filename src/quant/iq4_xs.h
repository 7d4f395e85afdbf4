// IQ4_XS: IQ4_NL's levels; each 32 elements have a 6-bit scale about 32. w = (d * (scale - 32)) * kIq4Levels[index].
#pragma once

#include "quant/iq4_nl.h"
#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kIQ4_XS> {
  static constexpr int kElems = kSuperblock;
  uint16_t d;           // f16
  uint16_t scales_h;    // bits 2 s, 2 s + 1: bits 4 and 5 of scale s
  uint8_t scales_l[4];  // nibble s % 2 of byte s / 2: bits 0..3 of scale s
  uint8_t qs[128];      // byte 16 s + l: low nibble element 32 s + l, high nibble element 32 s + 16 + l

  // 0..63, of elements 32 s .. 32 s + 31; the scale is d * (scale_code(s) - 32).
  constexpr int scale_code(int s) const {
    return ((scales_l[s / 2] >> (s % 2 * 4)) & 15) | ((scales_h >> (2 * s)) & 3) << 4;
  }

  void set_scale_code(int s, int code) {
    scales_l[s / 2] = static_cast<uint8_t>((scales_l[s / 2] & ~(15 << (s % 2 * 4))) | (code & 15) << (s % 2 * 4));
    scales_h = static_cast<uint16_t>((scales_h & ~(3 << (2 * s))) | (code >> 4) << (2 * s));
  }

  void decode(float* out) const {
    for (int s = 0; s < 8; ++s) {
      const float scale = f16_to_f32(d) * static_cast<float>(scale_code(s) - 32);
      for (int i = 0; i < 16; ++i) {
        out[32 * s + i] = scale * static_cast<float>(kIq4Levels[qs[16 * s + i] & 15]);
        out[32 * s + 16 + i] = scale * static_cast<float>(kIq4Levels[qs[16 * s + i] >> 4]);
      }
    }
  }

  // code[256], each 0..15.
  void pack(const uint8_t* code) {
    for (int byte = 0; byte < 128; ++byte) {
      const uint8_t* first = code + byte / 16 * 32 + byte % 16;
      qs[byte] = static_cast<uint8_t>(first[0] | first[16] << 4);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kIQ4_XS>) == 136);

}  // namespace spate
