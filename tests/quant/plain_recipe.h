// The plain way to quantise, which searches for nothing: scales that spread a sub-block's codes over the range of its
// weights, rounded to what the format stores, and the nearest code for each weight. What encoders must never be worse
// than; written from the formats' definitions, apart from the encoders.
#pragma once

#include <vector>

#include "quant/quant_type.h"

namespace spate::testing {

// What the weights, whole qblocks of an integer type, become. Nothing for float types.
std::vector<float> plain_recipe(QuantType type, const std::vector<float>& weights);

// The largest distance between neighbouring values that the plain recipe gives each weight's sub-block: what rounding
// errors are measured in. [weights]
std::vector<float> plain_steps(QuantType type, const std::vector<float>& weights);

}  // namespace spate::testing
