// F32, F16, BF16: a "qblock" is one element.
#pragma once

#include "quant/qblock.h"

namespace spate {

template <>
struct Qblock<QuantType::kF32> {
  static constexpr int kElems = 1;
  float value;

  void decode(float* out) const { *out = value; }
  void encode(const float* in) { value = *in; }
};
static_assert(sizeof(Qblock<QuantType::kF32>) == 4);

template <>
struct Qblock<QuantType::kF16> {
  static constexpr int kElems = 1;
  uint16_t value;

  void decode(float* out) const { *out = f16_to_f32(value); }
  void encode(const float* in) { value = f32_to_f16(*in); }
};
static_assert(sizeof(Qblock<QuantType::kF16>) == 2);

template <>
struct Qblock<QuantType::kBF16> {
  static constexpr int kElems = 1;
  uint16_t value;

  void decode(float* out) const { *out = bf16_to_f32(value); }
  void encode(const float* in) { value = f32_to_bf16(*in); }
};
static_assert(sizeof(Qblock<QuantType::kBF16>) == 2);

}  // namespace spate
