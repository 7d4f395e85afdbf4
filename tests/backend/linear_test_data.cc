#include "linear_test_data.h"

#include <cmath>
#include <cstring>
#include <random>

#include "quant/half.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q6_k.h"

namespace spate::cpu {

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

std::vector<float> random_activations(int n_tokens, int64_t n_cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n_tokens * n_cols));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = normal(random) * std::ldexp(1.0f, static_cast<int>(i / static_cast<size_t>(n_cols) % 5) - 2);
  return x;
}

std::vector<float> decode_weights(QuantType type, const std::vector<std::byte>& weights, int64_t n_rows,
                                  int64_t n_cols) {
  std::vector<float> values(static_cast<size_t>(n_rows * n_cols));
  const QuantTraits& traits = quant_traits(type);
  traits.decode(weights.data(), n_rows * n_cols / traits.block_elems, values.data());
  return values;
}

std::vector<double> exact_activations(const Activations& input) {
  std::vector<double> x(static_cast<size_t>(input.n_tokens) * input.n_cols);
  for (int t = 0; t < input.n_tokens; ++t)
    for (int c = 0; c < input.n_cols; ++c) {
      double& value = x[static_cast<size_t>(t) * input.n_cols + c];
      if (input.blocks == nullptr) {
        value = input.x[static_cast<size_t>(t) * input.n_cols + c];
      } else {
        const ActivationBlock& block = input.blocks[static_cast<size_t>(c / kActivationBlock) * input.n_tokens + t];
        value = static_cast<double>(block.scale) * block.q[c % kActivationBlock];
      }
    }
  return x;
}

ExactDot exact_dot(const float* w, const double* x, int64_t n) {
  ExactDot dot;
  for (int64_t i = 0; i < n; ++i) {
    const double product = w[i] * x[i];
    dot.sum += product;
    dot.sum_abs += std::abs(product);
  }
  return dot;
}

}  // namespace spate::cpu
