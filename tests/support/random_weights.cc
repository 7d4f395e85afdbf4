#include "support/random_weights.h"

#include <cmath>
#include <cstring>
#include <random>

#include "quant/half.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q6_k.h"

namespace spate::testing {

namespace {

// Byte offsets of the f16 numbers in a type's qblock.
std::vector<size_t> f16_fields(QuantType type) {
  switch (type) {
    case QuantType::kF32:
    case QuantType::kF16:
    case QuantType::kBF16:
      return {};
    case QuantType::kQ2_K:
      return {offsetof(Qblock<QuantType::kQ2_K>, d), offsetof(Qblock<QuantType::kQ2_K>, dmin)};
    case QuantType::kQ3_K:
      return {offsetof(Qblock<QuantType::kQ3_K>, d)};
    case QuantType::kQ6_K:
      return {offsetof(Qblock<QuantType::kQ6_K>, d)};
    case QuantType::kQ4_1:
    case QuantType::kQ5_1:
    case QuantType::kQ4_K:
    case QuantType::kQ5_K:
      return {0, 2};
    default:
      return {0};
  }
}

template <typename T>
void store(std::vector<std::byte>& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace

std::vector<std::byte> random_weights(QuantType type, int64_t n_rows, int64_t n_cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::byte> bytes(static_cast<size_t>(n_rows * quant_bytes(type, n_cols)));
  const size_t block_bytes = quant_traits(type).block_bytes;
  const std::vector<size_t> fields = f16_fields(type);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (size_t block = 0; block < bytes.size(); block += block_bytes) {
    if (type == QuantType::kF32) store(bytes, block, normal(random));
    if (type == QuantType::kF16) store(bytes, block, f32_to_f16(normal(random)));
    if (type == QuantType::kBF16) store(bytes, block, f32_to_bf16(normal(random)));
    for (size_t field : fields)
      store(bytes, block + field, f32_to_f16(normal(random) * (random() % 8 == 0 ? 2e-5f : 0.02f)));
  }
  return bytes;
}

void fill_codes(QuantType type, int pattern, std::vector<std::byte>& weights) {
  const std::vector<size_t> fields = f16_fields(type);
  if (fields.empty()) return;
  const size_t block_bytes = quant_traits(type).block_bytes;
  for (size_t i = 0; i < weights.size(); ++i) {
    bool scale = false;
    for (size_t field : fields) scale = scale || i % block_bytes == field || i % block_bytes == field + 1;
    if (!scale) weights[i] = static_cast<std::byte>(pattern);
  }
}

void set_deviation(QuantType type, double deviation, std::vector<std::byte>& weights) {
  const QuantTraits& traits = quant_traits(type);
  const auto n_blocks = static_cast<int64_t>(weights.size()) / traits.block_bytes;
  std::vector<float> values(n_blocks * traits.block_elems);
  traits.decode(weights.data(), n_blocks, values.data());
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  const auto factor = static_cast<float>(deviation / std::sqrt(squares / static_cast<double>(values.size())));
  if (type == QuantType::kF32) {
    for (float& value : values) value *= factor;
    std::memcpy(weights.data(), values.data(), weights.size());
    return;
  }
  std::vector<size_t> fields = f16_fields(type);
  const bool is_16_bit = type == QuantType::kF16 || type == QuantType::kBF16;
  if (is_16_bit) fields = {0};
  for (size_t block = 0; block < weights.size(); block += traits.block_bytes)
    for (const size_t field : fields) {
      uint16_t bits;
      std::memcpy(&bits, &weights[block + field], sizeof bits);
      const bool bf16 = type == QuantType::kBF16;
      const float scaled = (bf16 ? bf16_to_f32(bits) : f16_to_f32(bits)) * factor;
      store(weights, block + field, bf16 ? f32_to_bf16(scaled) : f32_to_f16(scaled));
    }
}

}  // namespace spate::testing
