#include "linear_test_data.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

namespace spate::cpu {

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

namespace {

double tile_value(const Activations& input, int token, int col) {
  const int first_step = col / (kTileSteps * kTileColumns) * kTileSteps;
  const int n_steps = std::min(kTileSteps, input.n_cols / kTileColumns - first_step);
  const int64_t tile = int64_t{first_step} * input.tiles.n_token_tiles + int64_t{token / kTileTokens} * n_steps +
                       col / kTileColumns - first_step;
  const uint32_t half = input.tiles.tiles[tile * kTileElems + token % kTileTokens * kTileColumns + col % kTileColumns];
  return std::bit_cast<float>(half << 16);
}

}  // namespace

std::vector<double> exact_activations(const Activations& input, QuantType type) {
  std::vector<double> x(static_cast<size_t>(input.n_tokens) * input.n_cols);
  for (int t = 0; t < input.n_tokens; ++t)
    for (int c = 0; c < input.n_cols; ++c) {
      double& value = x[static_cast<size_t>(t) * input.n_cols + c];
      if (input.tiles.tiles != nullptr && type != QuantType::kF32) {
        value = tile_value(input, t, c);
      } else if (input.blocks == nullptr) {
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
