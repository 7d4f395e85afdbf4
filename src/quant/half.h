// 16-bit floats to and from float32 in portable integer arithmetic, bit for bit as the hardware converts them: IEEE 754
// binary16 ("f16") and the upper half of a float32 ("bf16"). Rounds to nearest, ties to even; keeps infinities,
// subnormals and signed zeros; a NaN stays a NaN with its sign and becomes quiet.
#pragma once

#include <bit>
#include <cstdint>

namespace spate {

constexpr float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent == 0x1f) {
    const uint32_t quiet = fraction != 0 ? 0x400000 : 0;
    return std::bit_cast<float>(sign | 0x7f800000 | quiet | fraction << 13);
  }
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal: exact
  return sign != 0 ? -magnitude : magnitude;
}

constexpr uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffff;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00 | static_cast<uint16_t>((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00;  // 65536 and above
  // The value is significand * 2^-shift in units of the result's last place; rounding up may carry into the exponent,
  // which is then the right result too (up to infinity).
  if (magnitude < 0x38800000) {               // below the smallest normal f16, 2^-14
    if (magnitude < 0x33000000) return sign;  // below half of the smallest subnormal
    const uint32_t shift = 126 - (magnitude >> 23);
    const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t half = 1u << (shift - 1), rest = significand & ((1u << shift) - 1);
    uint32_t rounded = significand >> shift;
    if (rest > half || (rest == half && (rounded & 1) != 0)) ++rounded;
    return sign | static_cast<uint16_t>(rounded);
  }
  const uint32_t rebased = magnitude - (112u << 23);
  const uint32_t rounded = (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13;
  return sign | static_cast<uint16_t>(rounded);
}

constexpr float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

constexpr uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace spate
