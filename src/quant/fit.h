// Fits of scales to a few dozen weights, by least squares: the common part of all encoders. x is finite and at most
// kLargestWeight in magnitude everywhere here (load_weights sees to it), n a multiple of 4.
//
// Both fits are the same idea. For given codes, the best scale (and offset) has a closed form; for a given scale the
// best codes are the nearest ones. Alternating the two ends in a local minimum, so several starts are tried: scales
// that put the largest weight at different places of the grid, some of them outside of it, for clipping one outlier can
// be worth a finer step for all others.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "quant/half.h"
#include "quant/lanes.h"

namespace spate {

// Beyond what any format can hold (an f16 scale times a code), and small enough that sums of squares stay finite.
inline constexpr float kLargestWeight = 1e12f;
// Far below half of the smallest f16, 6e-8: weights of this size are zeros in every format, and 1 / this is still
// finite.
inline constexpr float kSmallestWeight = 1e-12f;

// Copies n weights, those outside the range that fits can work with brought back into it.
inline void load_weights(const float* in, int n, float* x) {
  for (int i = 0; i < n; ++i) {
    const float bounded = std::clamp(in[i], -kLargestWeight, kLargestWeight);
    x[i] = std::fabs(bounded) < kSmallestWeight ? 0.0f : bounded;
  }
}

// A scale as f16, kept finite; `value` is what the decoder will see.
struct HalfScale {
  uint16_t bits = 0;
  float value = 0;

  static HalfScale nearest(float scale) {
    const uint16_t bits = f32_to_f16(std::clamp(scale, -65504.0f, 65504.0f));
    return {bits, f16_to_f32(bits)};
  }
};

inline float inverse_or_zero(float value) {
  return value == 0 ? 0 : 1 / value;
}

// The weight of largest magnitude, with its sign.
template <int n>
float peak_of(const float* x) {
  float peak = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > std::fabs(peak)) peak = x[i];
  return peak;
}

// Sum of squared errors when each weight gets the nearest of the values scale * grid.
template <typename Grid, int n>
float scaled_error(const float* x, float scale) {
  const Lanes inverse = splat(inverse_or_zero(scale)), step = splat(scale);
  Lanes sum = splat(0);
  for (int i = 0; i < n; i += kLanes) {
    const Lanes weights = load_lanes(x + i);
    const Lanes error = weights - step * Grid::nearest(weights * inverse);
    sum += error * error;
  }
  return sum_lanes(sum);
}

// Sums over the weights and their nearest grid values q.
struct ScaleSums {
  float xq, qq;
};

template <typename Grid, int n>
ScaleSums sums_at(const float* x, float inverse_scale) {
  const Lanes inverse = splat(inverse_scale);
  Lanes sum_xq = splat(0), sum_qq = splat(0);
  for (int i = 0; i < n; i += kLanes) {
    const Lanes weights = load_lanes(x + i), q = Grid::nearest(weights * inverse);
    sum_xq += weights * q;
    sum_qq += q * q;
  }
  return {.xq = sum_lanes(sum_xq), .qq = sum_lanes(sum_qq)};
}

// The best scale for the grid values that are nearest at some other scale, and by how much it reduces the sum of
// squares (the error is the sum of x^2 less the gain).
struct ScaleFit {
  float scale = 0;
  float gain = 0;
};

template <typename Grid, int n>
ScaleFit fit_at(const float* x, float inverse_scale) {
  const ScaleSums sums = sums_at<Grid, n>(x, inverse_scale);
  if (sums.qq == 0) return {};
  return {.scale = sums.xq / sums.qq, .gain = sums.xq * (sums.xq / sums.qq)};
}

// Places on the grid at which a fit puts the largest weight: every `step` from `from` to `to`. Encoders space theirs so
// that eight times as many would lower the error by less than 0.4 % (demo model, 2026-11-22), and would take five times
// as long.
struct Starts {
  float from, to, step;
};

// The scale s that minimises the sum of (x - s * nearest grid value)^2, as near as the starts lead to it; it may be
// negative.
template <typename Grid, int n>
float fit_scale(const float* x, std::initializer_list<Starts> starts) {
  const float peak = peak_of<n>(x);
  if (peak == 0) return 0;
  ScaleFit best;
  for (const Starts& range : starts)
    for (float place = range.from; place <= range.to; place += range.step) {
      const ScaleFit fit = fit_at<Grid, n>(x, place / peak);
      if (fit.gain > best.gain) best = fit;
    }
  for (int round = 0; round < 4; ++round) {
    const ScaleFit fit = fit_at<Grid, n>(x, inverse_or_zero(best.scale));
    if (!(fit.gain > best.gain)) break;
    best = fit;
  }
  return best.scale;
}

// Values scale * code + offset for codes 0..n_levels - 1.
struct Affine {
  float scale = 0;
  float offset = 0;
};

template <int n_levels, int n>
float affine_error(const float* x, Affine affine) {
  const Lanes inverse = splat(inverse_or_zero(affine.scale));
  const Lanes step = splat(affine.scale), offset = splat(affine.offset);
  Lanes sum = splat(0);
  for (int i = 0; i < n; i += kLanes) {
    const Lanes weights = load_lanes(x + i) - offset;
    const Lanes error = weights - step * round_lanes(clamp_lanes(weights * inverse, 0, n_levels - 1));
    sum += error * error;
  }
  return sum_lanes(sum);
}

// Sums over the weights and their nearest codes q.
struct AffineSums {
  float x, q, xq, qq;
};

template <int n_levels, int n>
AffineSums sums_at(const float* x, Affine affine) {
  const Lanes inverse = splat(inverse_or_zero(affine.scale)), offset = splat(affine.offset);
  Lanes sum_x = splat(0), sum_q = splat(0), sum_xq = splat(0), sum_qq = splat(0);
  for (int i = 0; i < n; i += kLanes) {
    const Lanes weights = load_lanes(x + i);
    const Lanes q = round_lanes(clamp_lanes((weights - offset) * inverse, 0, n_levels - 1));
    sum_x += weights;
    sum_q += q;
    sum_xq += weights * q;
    sum_qq += q * q;
  }
  return {.x = sum_lanes(sum_x), .q = sum_lanes(sum_q), .xq = sum_lanes(sum_xq), .qq = sum_lanes(sum_qq)};
}

inline constexpr float kNoLimit = std::numeric_limits<float>::infinity();

struct AffineFit {
  Affine affine;
  float gain = -kNoLimit;  // the error is the sum of x^2 less this
};

// The best scale and offset for the codes that `start` leads to, by linear regression on x, which has the mean taken
// out so that a large offset costs no precision. offset_limit is the largest offset allowed.
template <int n_levels, int n>
AffineFit fit_at(const float* x, float offset_limit, Affine start) {
  const AffineSums sums = sums_at<n_levels, n>(x, start);
  const float spread = sums.qq - sums.q * sums.q / static_cast<float>(n);
  if (spread > 0) {
    const float scale = sums.xq / spread, offset = -scale * sums.q / static_cast<float>(n);
    if (offset <= offset_limit) return {.affine = {scale, offset}, .gain = sums.xq * scale};
  }
  if (sums.qq == 0 || offset_limit == kNoLimit) return {};
  // At the limit: regression through the origin on x - offset_limit.
  const float limited_xq = sums.xq - offset_limit * sums.q;
  return {.affine = {limited_xq / sums.qq, offset_limit},
          .gain = limited_xq * (limited_xq / sums.qq) - static_cast<float>(n) * offset_limit * offset_limit};
}

// The scale >= 0 and the offset <= max_offset that minimise the sum of (x - nearest of scale * code + offset)^2, as
// near as the starts lead to it. A start lays `place` steps over the range of the weights.
template <int n_levels, int n>
Affine fit_affine(const float* x, float max_offset, Starts starts) {
  float mean = 0;
  for (int i = 0; i < n; ++i) mean += x[i];
  mean /= static_cast<float>(n);
  alignas(16) float centred[n];
  for (int i = 0; i < n; ++i) centred[i] = x[i] - mean;
  const float limit = max_offset - mean;
  const auto [lowest, highest] = std::minmax_element(centred, centred + n);
  const float low = std::min(*lowest, limit), range = *highest - low;
  if (!(range > 0)) return {0, low + mean};
  AffineFit best{.affine = {range / (n_levels - 1), low}};
  for (float place = starts.from; place <= starts.to; place += starts.step) {
    const AffineFit fit = fit_at<n_levels, n>(centred, limit, {.scale = range / place, .offset = low});
    if (fit.gain > best.gain && fit.affine.scale > 0) best = fit;
  }
  for (int round = 0; round < 6; ++round) {
    const AffineFit fit = fit_at<n_levels, n>(centred, limit, best.affine);
    if (!(fit.gain > best.gain) || fit.affine.scale <= 0) break;
    best = fit;
  }
  return {best.affine.scale, best.affine.offset + mean};
}

}  // namespace spate
