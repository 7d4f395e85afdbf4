// Q5_0: 5-bit codes about 16, one scale. w = d * (code - 16).
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kQ5_0> {
  static constexpr int kElems = kSubblock;
  uint16_t d;      // f16
  uint8_t qh[4];   // bit i % 8 of byte i / 8: bit 4 of element i
  uint8_t qs[16];  // low nibbles: elements 0..15; high nibbles: 16..31

  constexpr int code(int i) const {
    const int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    return low | ((qh[i / 8] >> (i % 8)) & 1) << 4;
  }

  void decode(float* out) const {
    const float scale = f16_to_f32(d);
    for (int i = 0; i < kElems; ++i) out[i] = static_cast<float>(code(i) - 16) * scale;
  }

  // code[32], each 0..31.
  void pack(const uint8_t* code) {
    for (int i = 0; i < 16; ++i) qs[i] = static_cast<uint8_t>((code[i] & 15) | (code[i + 16] & 15) << 4);
    for (int byte = 0; byte < 4; ++byte) {
      qh[byte] = 0;
      for (int bit = 0; bit < 8; ++bit) qh[byte] |= static_cast<uint8_t>((code[8 * byte + bit] >> 4) << bit);
    }
  }

  void encode(const float* in);
};
static_assert(sizeof(Qblock<QuantType::kQ5_0>) == 22);

}  // namespace spate
