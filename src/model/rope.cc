#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/model_spec.h"

namespace spate {

namespace {

// The (fractional) pair that makes `rotations` turns over the original context: YaRN, section 3.2.
double pair_with_rotations(const RopeSpec& rope, double rotations) {
  return rope.rotary_dim * std::log(rope.original_context / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.base));
}

}  // namespace

std::vector<float> RopeSpec::frequencies() const {
  const int n_pairs = rotary_dim / 2;
  std::vector<float> result(n_pairs);
  double low = 0, high = 0;
  if (yarn_factor > 1) {
    low = std::max(0.0, std::floor(pair_with_rotations(*this, yarn_beta_fast)));
    high = std::min(rotary_dim - 1.0, std::ceil(pair_with_rotations(*this, yarn_beta_slow)));
  }
  for (int i = 0; i < n_pairs; ++i) {
    double frequency = std::pow(static_cast<double>(base), -2.0 * i / rotary_dim);
    if (!frequency_divisors.empty()) frequency /= frequency_divisors[i];
    if (yarn_factor > 1) {
      // 1 for pairs that turn fast (kept as they are), 0 for slow ones (interpolated), a ramp between.
      const double keep = 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
      frequency *= keep + (1 - keep) / yarn_factor;
    }
    result[i] = static_cast<float>(frequency * frequency_scale);
  }
  return result;
}

}  // namespace spate
