// Random weights and activations for the tests of linear products, and what the products must give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/cpu/linear.h"
#include "quant/quant_type.h"

namespace spate::cpu {

// [n_rows, n_cols] in the file's order: random bits, except that scales are of sane size (about one in eight
// subnormal).
std::vector<std::byte> random_weights(QuantType type, int64_t n_rows, int64_t n_cols, uint32_t seed);

// Sets every byte that holds codes or small scales to `pattern`; the f16 scales stay. Weights of float types: no
// change.
void fill_codes(QuantType type, int pattern, std::vector<std::byte>& weights);

// [n_tokens, n_cols], roughly normal, magnitudes differing between tokens.
std::vector<float> random_activations(int n_tokens, int64_t n_cols, uint32_t seed);

// [n_rows, n_cols]
std::vector<float> decode_weights(QuantType type, const std::vector<std::byte>& weights, int64_t n_rows,
                                  int64_t n_cols);

// [n_tokens, n_cols]: what the kernels multiply, exactly.
std::vector<double> exact_activations(const Activations& input);

struct ExactDot {
  double sum = 0, sum_abs = 0;
};
ExactDot exact_dot(const float* w, const double* x, int64_t n);

}  // namespace spate::cpu
