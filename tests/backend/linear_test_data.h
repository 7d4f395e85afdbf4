// Random weights and activations for the tests of linear products, and what the products must give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/linear.h"
#include "quant/quant_type.h"

#include "support/random_weights.h"

namespace spate::cpu {

using testing::fill_codes;
using testing::random_weights;

// [n_tokens, n_cols], roughly normal, magnitudes differing between tokens.
std::vector<float> random_activations(int n_tokens, int64_t n_cols, uint32_t seed);

// [n_rows, n_cols]
std::vector<float> decode_weights(QuantType type, const std::vector<std::byte>& weights, int64_t n_rows,
                                  int64_t n_cols);

// [n_tokens, n_cols]: what the kernels multiply with weights of the type, exactly.
std::vector<double> exact_activations(const Activations& input, QuantType type);

struct ExactDot {
  double sum = 0, sum_abs = 0;
};
ExactDot exact_dot(const float* w, const double* x, int64_t n);

}  // namespace spate::cpu
