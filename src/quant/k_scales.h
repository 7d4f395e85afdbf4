// The 12 bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit minimums.
#pragma once

#include <cstdint>

namespace spate {

// Scales 0..3 fill the low 6 bits of bytes 0..3, minimums 0..3 those of bytes 4..7. Of scale 4 + s and minimum 4 + s
// the low 4 bits are the low and the high nibble of byte 8 + s, and the upper 2 bits the top of bytes s and 4 + s.
struct KScales {
  uint8_t bytes[12];

  constexpr int scale(int s) const { return s < 4 ? bytes[s] & 63 : (bytes[s + 4] & 15) | (bytes[s - 4] >> 6) << 4; }
  constexpr int minimum(int s) const { return s < 4 ? bytes[s + 4] & 63 : (bytes[s + 4] >> 4) | (bytes[s] >> 6) << 4; }

  // scale[8], minimum[8], each 0..63.
  static KScales from(const uint8_t* scale, const uint8_t* minimum) {
    KScales packed;
    for (int s = 0; s < 4; ++s) {
      packed.bytes[s] = static_cast<uint8_t>(scale[s] | (scale[s + 4] >> 4) << 6);
      packed.bytes[s + 4] = static_cast<uint8_t>(minimum[s] | (minimum[s + 4] >> 4) << 6);
      packed.bytes[s + 8] = static_cast<uint8_t>((scale[s + 4] & 15) | (minimum[s + 4] & 15) << 4);
    }
    return packed;
  }
};
static_assert(sizeof(KScales) == 12);

}  // namespace spate
