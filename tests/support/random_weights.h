// Random weights of every quant type, for tests: there is no encoder in them, so a bug of an encoder hides nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "quant/quant_type.h"

namespace spate::testing {

// [n_rows, n_cols] in the file's order: random bits, except that scales are of sane size (about one in eight
// subnormal).
std::vector<std::byte> random_weights(QuantType type, int64_t n_rows, int64_t n_cols, uint32_t seed);

// Sets every byte that holds codes or small scales to `pattern`; the f16 scales stay. Weights of float types: no
// change.
void fill_codes(QuantType type, int pattern, std::vector<std::byte>& weights);

// Multiplies the f16 scales (or the elements of a float type), so that the decoded weights have this standard
// deviation.
void set_deviation(QuantType type, double deviation, std::vector<std::byte>& weights);

}  // namespace spate::testing
