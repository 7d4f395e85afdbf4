// choose_scale(): the powers of two that keep a matrix's stored scales and decoded weights inside float16.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cuda/matmul.h"
#include "backend/cuda/tile_format.h"

namespace spate::cuda {

namespace {

constexpr float kLargestHalf = 65504;
constexpr int kTargetLog2 = 14;  // the largest weight of a float type stays under 2^14; float16 ends at 2^16
constexpr int kLimitLog2 = 24;   // more moves no bit: half as many as float32 has, and still within it

// Codes are multiplied by scales times 2^24 (tile_codes.h), of which the largest comes near float16's end. So weights
// of b bits are under 2^(b - 8) and a rounding of theirs costs 2^-25 at least: nothing where scales are down to 2^-7 of
// the largest one, a weight's last bits where they are smaller. Sub-blocks so small add next to nothing to a row, but a
// row may be as small as a whole: from this on rows have a power each. With one for all, a product's end has nothing
// to look up, and matrices whose largest scales by row spread over more are rare.
constexpr int kEvenLog2 = 6;

// What scales for codes and what a minimum's unit or an offset can come to at most, as they are stored, for d and for
// dmin or m of 1.
template <QuantType type>
struct Range;
template <>
struct Range<QuantType::kQ4_0> {
  static constexpr float d = kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kQ4_1> {
  static constexpr float d = kStoredScale, other = 1 / kOffsetUnit;
};
template <>
struct Range<QuantType::kQ5_0> {
  static constexpr float d = kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kQ5_1> {
  static constexpr float d = kStoredScale, other = 1 / kOffsetUnit;
};
template <>
struct Range<QuantType::kQ8_0> {
  static constexpr float d = kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kQ2_K> {
  static constexpr float d = 15 * kStoredScale, other = kStoredScale;
};
template <>
struct Range<QuantType::kQ3_K> {
  static constexpr float d = 32 * kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kQ4_K> {
  static constexpr float d = 63 * kStoredScale, other = kStoredScale;
};
template <>
struct Range<QuantType::kQ5_K> {
  static constexpr float d = 63 * kStoredScale, other = kStoredScale;
};
template <>
struct Range<QuantType::kQ6_K> {
  static constexpr float d = 128 * kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kIQ4_NL> {
  static constexpr float d = kStoredScale, other = 0;
};
template <>
struct Range<QuantType::kIQ4_XS> {
  static constexpr float d = 32 * kStoredScale, other = 0;
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

// The largest number that a row's products with codes would have as a factor, or that would be stored of it.
template <QuantType type>
float largest_stored(const Qblock<type>* row, int64_t n_blocks) {
  using Block = Qblock<type>;
  LargestHalf d, other;
  for (int64_t i = 0; i < n_blocks; ++i) {
    d.see(row[i].d);
    if constexpr (requires(Block b) { b.dmin; }) other.see(row[i].dmin);
    if constexpr (requires(Block b) { b.m; }) other.see(row[i].m);
  }
  return std::max(d.value() * Range<type>::d, other.value() * Range<type>::other);
}

// The largest power of two, as its logarithm, that keeps `largest` times it a float16.
int log2_below_half(float largest) {
  return 15 - std::ilogb(largest * (0x1p16f / kLargestHalf));
}

constexpr int kNone = std::numeric_limits<int>::max();  // of a row of zeros: any power will do

template <QuantType type>
MatrixScale scale_of_rows(const std::byte* raw, int64_t n_rows, int64_t n_cols) {
  const int64_t n_blocks = n_cols / Qblock<type>::kElems;
  const auto* blocks = reinterpret_cast<const Qblock<type>*>(raw);
  std::vector<int> row_log2(static_cast<size_t>(n_rows));
  int least = kNone, most = std::numeric_limits<int>::min();
  for (int64_t r = 0; r < n_rows; ++r) {
    const float largest = largest_stored<type>(blocks + r * n_blocks, n_blocks);
    int& log2 = row_log2[static_cast<size_t>(r)];
    log2 = largest == 0 ? kNone : log2_below_half(largest);
    least = std::min(least, log2);
    if (log2 != kNone) most = std::max(most, log2);
  }
  if (least == kNone) return {};
  MatrixScale scale{.log2 = least, .row_factors = {}};
  if (most - least <= kEvenLog2) return scale;
  scale.row_factors.assign(static_cast<size_t>((n_rows + kTileRows - 1) / kTileRows * kTileRows), 1.0f);
  for (size_t r = 0; r < row_log2.size(); ++r)
    if (row_log2[r] != kNone) scale.row_factors[r] = power_of_two(least - row_log2[r]);
  return scale;
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

MatrixScale choose_scale(QuantType type, const std::byte* raw, int64_t n_rows, int64_t n_cols) {
  switch (type) {
    case QuantType::kF16:
      return {};  // as they are
    case QuantType::kF32:
    case QuantType::kBF16:
      break;
    case QuantType::kQ4_0:
      return scale_of_rows<QuantType::kQ4_0>(raw, n_rows, n_cols);
    case QuantType::kQ4_1:
      return scale_of_rows<QuantType::kQ4_1>(raw, n_rows, n_cols);
    case QuantType::kQ5_0:
      return scale_of_rows<QuantType::kQ5_0>(raw, n_rows, n_cols);
    case QuantType::kQ5_1:
      return scale_of_rows<QuantType::kQ5_1>(raw, n_rows, n_cols);
    case QuantType::kQ8_0:
      return scale_of_rows<QuantType::kQ8_0>(raw, n_rows, n_cols);
    case QuantType::kQ2_K:
      return scale_of_rows<QuantType::kQ2_K>(raw, n_rows, n_cols);
    case QuantType::kQ3_K:
      return scale_of_rows<QuantType::kQ3_K>(raw, n_rows, n_cols);
    case QuantType::kQ4_K:
      return scale_of_rows<QuantType::kQ4_K>(raw, n_rows, n_cols);
    case QuantType::kQ5_K:
      return scale_of_rows<QuantType::kQ5_K>(raw, n_rows, n_cols);
    case QuantType::kQ6_K:
      return scale_of_rows<QuantType::kQ6_K>(raw, n_rows, n_cols);
    case QuantType::kIQ4_NL:
      return scale_of_rows<QuantType::kIQ4_NL>(raw, n_rows, n_cols);
    case QuantType::kIQ4_XS:
      return scale_of_rows<QuantType::kIQ4_XS>(raw, n_rows, n_cols);
  }
  const float largest = largest_float(type, raw, n_rows * n_cols);
  if (largest == 0) return {};
  return {.log2 = std::clamp(kTargetLog2 - 1 - std::ilogb(largest), -kLimitLog2, kLimitLog2), .row_factors = {}};
}

}  // namespace spate::cuda
