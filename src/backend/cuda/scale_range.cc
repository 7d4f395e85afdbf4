// choose_scale_log2(): the power of two that keeps a matrix's decoded weights well inside float16.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/cuda/matmul.h"
#include "backend/cuda/tile_format.h"

namespace spate::cuda {

namespace {

constexpr int kTargetLog2 = 14;  // the largest weight stays under 2^14; float16 ends at 2^16
constexpr int kLimitLog2 = 24;   // more moves no bit: the file's scales are float16 themselves

// The largest factor that codes and sub-block scales can give d, and dmin or m.
template <QuantType type>
struct Range;
template <>
struct Range<QuantType::kQ4_0> {
  static constexpr float d = 8, other = 0;
};
template <>
struct Range<QuantType::kQ4_1> {
  static constexpr float d = 15, other = 1;
};
template <>
struct Range<QuantType::kQ5_0> {
  static constexpr float d = 16, other = 0;
};
template <>
struct Range<QuantType::kQ5_1> {
  static constexpr float d = 31, other = 1;
};
template <>
struct Range<QuantType::kQ8_0> {
  static constexpr float d = 128, other = 0;
};
template <>
struct Range<QuantType::kQ2_K> {
  static constexpr float d = 15 * 3, other = 15;
};
template <>
struct Range<QuantType::kQ3_K> {
  static constexpr float d = 32 * 4, other = 0;
};
template <>
struct Range<QuantType::kQ4_K> {
  static constexpr float d = 63 * 15, other = 63;
};
template <>
struct Range<QuantType::kQ5_K> {
  static constexpr float d = 63 * 31, other = 63;
};
template <>
struct Range<QuantType::kQ6_K> {
  static constexpr float d = 128 * 32, other = 0;
};
template <>
struct Range<QuantType::kIQ4_NL> {
  static constexpr float d = 127, other = 0;
};
template <>
struct Range<QuantType::kIQ4_XS> {
  static constexpr float d = 32 * 127, other = 0;
};

// Magnitude bits of the largest finite float16 among those seen; they order as the values do.
struct LargestHalf {
  uint16_t bits = 0;
  void see(uint16_t half) {
    const uint16_t magnitude = half & 0x7fff;
    if (magnitude < 0x7c00) bits = std::max(bits, magnitude);
  }
  float value() const { return f16_to_f32(bits); }
};

template <QuantType type>
float largest_weight(const std::byte* raw, int64_t n_elems) {
  using Block = Qblock<type>;
  LargestHalf d, other;
  const auto* blocks = reinterpret_cast<const Block*>(raw);
  for (int64_t i = 0; i < n_elems / Block::kElems; ++i) {
    d.see(blocks[i].d);
    if constexpr (requires(Block b) { b.dmin; }) other.see(blocks[i].dmin);
    if constexpr (requires(Block b) { b.m; }) other.see(blocks[i].m);
  }
  return d.value() * Range<type>::d + other.value() * Range<type>::other;
}

float largest_float(QuantType type, const std::byte* raw, int64_t n_elems) {
  float largest = 0;
  for (int64_t i = 0; i < n_elems; ++i) {
    float value;
    if (type == QuantType::kF32) {
      std::memcpy(&value, raw + 4 * i, 4);
    } else {
      uint16_t bits;
      std::memcpy(&bits, raw + 2 * i, 2);
      value = bf16_to_f32(bits);
    }
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  return largest;
}

}  // namespace

int choose_scale_log2(QuantType type, const std::byte* raw, int64_t n_rows, int64_t n_cols) {
  const int64_t n_elems = n_rows * n_cols;
  float largest = 0;
  switch (type) {
    case QuantType::kF16:
      return 0;  // as they are
    case QuantType::kF32:
    case QuantType::kBF16:
      largest = largest_float(type, raw, n_elems);
      break;
    case QuantType::kQ4_0:
      largest = largest_weight<QuantType::kQ4_0>(raw, n_elems);
      break;
    case QuantType::kQ4_1:
      largest = largest_weight<QuantType::kQ4_1>(raw, n_elems);
      break;
    case QuantType::kQ5_0:
      largest = largest_weight<QuantType::kQ5_0>(raw, n_elems);
      break;
    case QuantType::kQ5_1:
      largest = largest_weight<QuantType::kQ5_1>(raw, n_elems);
      break;
    case QuantType::kQ8_0:
      largest = largest_weight<QuantType::kQ8_0>(raw, n_elems);
      break;
    case QuantType::kQ2_K:
      largest = largest_weight<QuantType::kQ2_K>(raw, n_elems);
      break;
    case QuantType::kQ3_K:
      largest = largest_weight<QuantType::kQ3_K>(raw, n_elems);
      break;
    case QuantType::kQ4_K:
      largest = largest_weight<QuantType::kQ4_K>(raw, n_elems);
      break;
    case QuantType::kQ5_K:
      largest = largest_weight<QuantType::kQ5_K>(raw, n_elems);
      break;
    case QuantType::kQ6_K:
      largest = largest_weight<QuantType::kQ6_K>(raw, n_elems);
      break;
    case QuantType::kIQ4_NL:
      largest = largest_weight<QuantType::kIQ4_NL>(raw, n_elems);
      break;
    case QuantType::kIQ4_XS:
      largest = largest_weight<QuantType::kIQ4_XS>(raw, n_elems);
      break;
  }
  if (largest == 0) return 0;
  return std::clamp(kTargetLog2 - 1 - std::ilogb(largest), -kLimitLog2, kLimitLog2);
}

}  // namespace spate::cuda
