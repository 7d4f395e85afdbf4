// Encoders of the types whose qblocks are 256 weights: sub-blocks of 16 or 32 with small integer scales, which are
// multiples of one f16 scale of the qblock. Q3_K, Q6_K and IQ4_XS have scales only; Q2_K, Q4_K and Q5_K also subtract a
// minimum from each sub-block.
//
// First every sub-block is fitted by itself, as if its scale could be any number. Then the scale of the qblock is
// chosen, of which those should be multiples. Then two steps alternate: the integers of each sub-block are moved by one
// where that lowers the error, and the scale of the qblock is fitted again to all codes at once.
#include <array>

#include "quant/code_grid.h"
#include "quant/fit.h"
#include "quant/iq4_xs.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_k.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"

namespace spate {

namespace {

constexpr int kElems = kSuperblock;
constexpr int kMaxSubblocks = 16;
constexpr int kMaxRounds = 3;  // of the two alternating steps: a fourth lowers no type's error by 0.05 %

// The unit of which n values are best described as multiples by the integers low..high (low <= 0 < high). The plain
// choice puts the largest value at the end of that range; smaller integers for it are tried too, down to 3/4 of the
// range.
float unit_of(const float* values, int n, int low, int high) {
  float peak = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(values[i]) > std::fabs(peak)) peak = values[i];
  if (peak == 0) return 0;
  const int end = low == 0 ? high : low, toward_zero = low == 0 ? -1 : 1;
  float best_unit = 0, best_error = kNoLimit;
  for (int place = end; 4 * std::abs(place) >= 3 * std::abs(end); place += toward_zero) {
    const float inverse = static_cast<float>(place) / peak, unit = peak / static_cast<float>(place);
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float rounded =
          std::clamp(std::nearbyint(values[i] * inverse), static_cast<float>(low), static_cast<float>(high));
      error += (values[i] - unit * rounded) * (values[i] - unit * rounded);
    }
    if (error < best_error) {
      best_error = error;
      best_unit = unit;
    }
  }
  return best_unit;
}

int nearest_multiple(float value, float unit, int low, int high) {
  const float bounded = std::clamp(value * inverse_or_zero(unit), static_cast<float>(low), static_cast<float>(high));
  return static_cast<int>(std::nearbyint(bounded));
}

// A format of scales only: codes on a Grid, sub-blocks of n weights, integer scales of low..high.
template <typename GridType, int n, int low, int high>
struct ScaledFormat {
  using Grid = GridType;
  static constexpr int kSubElems = n, kSubblocks = kElems / n, kLow = low, kHigh = high;
};

template <typename Format>
struct ScaledPlan {
  HalfScale unit;
  std::array<int, kMaxSubblocks> scale{};
  float error = kNoLimit;  // sum of squares, codes being the nearest ones

  float step(int s) const { return unit.value * static_cast<float>(scale[s]); }
};

template <typename Format>
ScaledPlan<Format> make_plan(const float* x, const float* fitted, HalfScale unit) {
  ScaledPlan<Format> plan{.unit = unit, .scale = {}, .error = 0};
  for (int s = 0; s < Format::kSubblocks; ++s) {
    plan.scale[s] = nearest_multiple(fitted[s], unit.value, Format::kLow, Format::kHigh);
    plan.error += scaled_error<typename Format::Grid, Format::kSubElems>(x + s * Format::kSubElems, plan.step(s));
  }
  return plan;
}

// Moves each integer scale by one where that lowers the error.
template <typename Format>
ScaledPlan<Format> improve_scales(const float* x, ScaledPlan<Format> plan) {
  plan.error = 0;
  for (int s = 0; s < Format::kSubblocks; ++s) {
    float best_error = kNoLimit;
    int best = plan.scale[s];
    for (int move : {0, -1, 1}) {
      const int scale = plan.scale[s] + move;
      if (scale < Format::kLow || scale > Format::kHigh) continue;
      const float error = scaled_error<typename Format::Grid, Format::kSubElems>(
          x + s * Format::kSubElems, plan.unit.value * static_cast<float>(scale));
      if (error < best_error) {
        best_error = error;
        best = scale;
      }
    }
    plan.scale[s] = best;
    plan.error += best_error;
  }
  return plan;
}

// The unit that is best for the codes that the plan leads to.
template <typename Format>
HalfScale refit_unit(const float* x, const ScaledPlan<Format>& plan) {
  float numerator = 0, denominator = 0;
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const float scale = static_cast<float>(plan.scale[s]);
    const ScaleSums sums =
        sums_at<typename Format::Grid, Format::kSubElems>(x + s * Format::kSubElems, inverse_or_zero(plan.step(s)));
    numerator += scale * sums.xq;
    denominator += scale * scale * sums.qq;
  }
  return denominator > 0 ? HalfScale::nearest(numerator / denominator) : plan.unit;
}

template <typename Format>
ScaledPlan<Format> plan_scaled(const float* x, std::initializer_list<Starts> starts) {
  std::array<float, kMaxSubblocks> fitted, plain;
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const float* sub = x + s * Format::kSubElems;
    fitted[s] = fit_scale<typename Format::Grid, Format::kSubElems>(sub, starts);
    plain[s] = peak_of<Format::kSubElems>(sub) / Format::Grid::kLow;
  }
  const HalfScale unit = HalfScale::nearest(unit_of(fitted.data(), Format::kSubblocks, Format::kLow, Format::kHigh));
  const HalfScale plain_unit = HalfScale::nearest(peak_of<Format::kSubblocks>(plain.data()) / Format::kLow);
  ScaledPlan<Format> best = improve_scales(x, make_plan<Format>(x, fitted.data(), unit));
  if (const auto other = make_plan<Format>(x, plain.data(), plain_unit); other.error < best.error) best = other;
  for (int round = 0; round < kMaxRounds; ++round) {
    ScaledPlan<Format> next = best;
    next.unit = refit_unit(x, best);
    next = improve_scales(x, next);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return best;
}

// code[256] of the nearest grid values.
template <typename Format>
void scaled_codes(const float* x, const ScaledPlan<Format>& plan, uint8_t* code) {
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const Lanes inverse = splat(inverse_or_zero(plan.step(s)));
    for (int i = s * Format::kSubElems; i < (s + 1) * Format::kSubElems; i += kLanes) {
      const Lanes q = Format::Grid::nearest(load_lanes(x + i) * inverse);
      for (int lane = 0; lane < kLanes; ++lane) code[i + lane] = Format::Grid::code(q[lane]);
    }
  }
}

// A format of scales and minimums: codes 0..levels - 1, sub-blocks of n weights, integers 0..top for both.
template <int levels, int n, int top>
struct AffineFormat {
  static constexpr int kLevels = levels, kSubElems = n, kSubblocks = kElems / n, kTop = top;
};

template <typename Format>
struct AffinePlan {
  HalfScale unit, minimum_unit;
  std::array<uint8_t, kMaxSubblocks> scale{}, minimum{};
  float error = kNoLimit;

  Affine affine(int scale_code, int minimum_code) const {
    return {unit.value * static_cast<float>(scale_code), -(minimum_unit.value * static_cast<float>(minimum_code))};
  }
  Affine affine(int s) const { return affine(scale[s], minimum[s]); }
};

template <typename Format>
float sub_error(const float* x, int s, Affine affine) {
  return affine_error<Format::kLevels, Format::kSubElems>(x + s * Format::kSubElems, affine);
}

template <typename Format>
AffinePlan<Format> make_plan(const float* x, const Affine* fitted, HalfScale unit, HalfScale minimum_unit) {
  AffinePlan<Format> plan{.unit = unit, .minimum_unit = minimum_unit, .scale = {}, .minimum = {}, .error = 0};
  for (int s = 0; s < Format::kSubblocks; ++s) {
    plan.scale[s] = static_cast<uint8_t>(nearest_multiple(fitted[s].scale, unit.value, 0, Format::kTop));
    plan.minimum[s] = static_cast<uint8_t>(nearest_multiple(-fitted[s].offset, minimum_unit.value, 0, Format::kTop));
    plan.error += sub_error<Format>(x, s, plan.affine(s));
  }
  return plan;
}

// Moves the integers of each sub-block, both, by at most one where that lowers the error.
template <typename Format>
AffinePlan<Format> improve_scales(const float* x, AffinePlan<Format> plan) {
  plan.error = 0;
  for (int s = 0; s < Format::kSubblocks; ++s) {
    float best_error = sub_error<Format>(x, s, plan.affine(s));
    const int scale = plan.scale[s], minimum = plan.minimum[s];
    for (int a = std::max(scale - 1, 0); a <= std::min(scale + 1, Format::kTop); ++a)
      for (int m = std::max(minimum - 1, 0); m <= std::min(minimum + 1, Format::kTop); ++m) {
        const float error = sub_error<Format>(x, s, plan.affine(a, m));
        if (!(error < best_error)) continue;
        best_error = error;
        plan.scale[s] = static_cast<uint8_t>(a);
        plan.minimum[s] = static_cast<uint8_t>(m);
      }
    plan.error += best_error;
  }
  return plan;
}

// Both units by linear regression on the codes that the plan leads to: x = unit * (scale code) - minimum_unit *
// minimum.
template <typename Format>
void refit_units(const float* x, AffinePlan<Format>& plan) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;  // a: scale * code, b: minimum
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const AffineSums sums = sums_at<Format::kLevels, Format::kSubElems>(x + s * Format::kSubElems, plan.affine(s));
    const double scale = plan.scale[s], minimum = plan.minimum[s];
    aa += scale * scale * sums.qq;
    ab += scale * minimum * sums.q;
    bb += minimum * minimum * Format::kSubElems;
    xa += scale * sums.xq;
    xb += minimum * sums.x;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-6 * aa * bb) {
    const double unit = (xa * bb - xb * ab) / determinant, minimum_unit = (xa * ab - xb * aa) / determinant;
    if (unit <= 0 || minimum_unit <= 0) return;
    plan.unit = HalfScale::nearest(static_cast<float>(unit));
    plan.minimum_unit = HalfScale::nearest(static_cast<float>(minimum_unit));
  } else if (aa > 0 && bb == 0 && xa > 0) {
    plan.unit = HalfScale::nearest(static_cast<float>(xa / aa));
  }
}

template <typename Format>
AffinePlan<Format> plan_affine(const float* x, Starts starts) {
  std::array<Affine, kMaxSubblocks> fitted, plain;
  std::array<float, kMaxSubblocks> scale, minimum;
  float plain_scale = 0, plain_minimum = 0;
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const float* sub = x + s * Format::kSubElems;
    fitted[s] = fit_affine<Format::kLevels, Format::kSubElems>(sub, 0, starts);
    scale[s] = fitted[s].scale;
    minimum[s] = -fitted[s].offset;
    const auto [lowest, highest] = std::minmax_element(sub, sub + Format::kSubElems);
    const float low = std::min(*lowest, 0.0f);
    plain[s] = {(*highest - low) / (Format::kLevels - 1), low};
    plain_scale = std::max(plain_scale, plain[s].scale);
    plain_minimum = std::max(plain_minimum, -low);
  }
  const HalfScale unit = HalfScale::nearest(unit_of(scale.data(), Format::kSubblocks, 0, Format::kTop));
  const HalfScale minimum_unit = HalfScale::nearest(unit_of(minimum.data(), Format::kSubblocks, 0, Format::kTop));
  AffinePlan<Format> best = improve_scales(x, make_plan<Format>(x, fitted.data(), unit, minimum_unit));
  if (const auto other = make_plan<Format>(x, plain.data(), HalfScale::nearest(plain_scale / Format::kTop),
                                           HalfScale::nearest(plain_minimum / Format::kTop));
      other.error < best.error)
    best = other;
  for (int round = 0; round < kMaxRounds; ++round) {
    AffinePlan<Format> next = best;
    refit_units(x, next);
    next = improve_scales(x, next);
    if (!(next.error < best.error)) break;
    best = next;
  }
  return best;
}

template <typename Format>
void affine_codes(const float* x, const AffinePlan<Format>& plan, uint8_t* code) {
  for (int s = 0; s < Format::kSubblocks; ++s) {
    const Affine affine = plan.affine(s);
    const Lanes inverse = splat(inverse_or_zero(affine.scale)), offset = splat(affine.offset);
    for (int i = s * Format::kSubElems; i < (s + 1) * Format::kSubElems; i += kLanes) {
      const Lanes q = round_lanes(clamp_lanes((load_lanes(x + i) - offset) * inverse, 0, Format::kLevels - 1));
      for (int lane = 0; lane < kLanes; ++lane) code[i + lane] = static_cast<uint8_t>(q[lane]);
    }
  }
}

// Plans x and fills what all qblocks with minimums have alike.
template <typename Format, typename Block>
AffinePlan<Format> encode_affine(Block& block, const float* in, Starts starts) {
  alignas(16) float x[kElems];
  load_weights(in, kElems, x);
  const auto plan = plan_affine<Format>(x, starts);
  uint8_t code[kElems];
  affine_codes(x, plan, code);
  block.d = plan.unit.bits;
  block.dmin = plan.minimum_unit.bits;
  block.pack(code);
  return plan;
}

template <typename Format, typename Block>
ScaledPlan<Format> encode_scaled(Block& block, const float* in, std::initializer_list<Starts> starts) {
  alignas(16) float x[kElems];
  load_weights(in, kElems, x);
  const auto plan = plan_scaled<Format>(x, starts);
  uint8_t code[kElems];
  scaled_codes(x, plan, code);
  block.d = plan.unit.bits;
  block.pack(code);
  return plan;
}

}  // namespace

void Qblock<QuantType::kQ2_K>::encode(const float* in) {
  const auto plan = encode_affine<AffineFormat<4, 16, 15>>(*this, in, {2.0f, 4.0f, 0.2f});
  for (int s = 0; s < 16; ++s) scales[s] = static_cast<uint8_t>(plan.scale[s] | plan.minimum[s] << 4);
}

void Qblock<QuantType::kQ4_K>::encode(const float* in) {
  const auto plan = encode_affine<AffineFormat<16, 32, 63>>(*this, in, {12.0f, 16.5f, 0.25f});
  scales = KScales::from(plan.scale.data(), plan.minimum.data());
}

void Qblock<QuantType::kQ5_K>::encode(const float* in) {
  const auto plan = encode_affine<AffineFormat<32, 32, 63>>(*this, in, {27.0f, 32.5f, 0.25f});
  scales = KScales::from(plan.scale.data(), plan.minimum.data());
}

void Qblock<QuantType::kQ3_K>::encode(const float* in) {
  const auto plan = encode_scaled<ScaledFormat<UniformGrid<-4, 3>, 16, -32, 31>>(
      *this, in, {{-5.5f, -2.0f, 0.25f}, {2.0f, 4.5f, 0.25f}});
  for (int s = 0; s < 16; ++s) set_scale_code(s, plan.scale[s] + 32);
}

void Qblock<QuantType::kQ6_K>::encode(const float* in) {
  const auto plan = encode_scaled<ScaledFormat<UniformGrid<-32, 31>, 16, -128, 127>>(
      *this, in, {{-33.5f, -28.0f, 0.5f}, {27.0f, 32.0f, 0.5f}});
  for (int s = 0; s < 16; ++s) scales[s] = static_cast<int8_t>(plan.scale[s]);
}

void Qblock<QuantType::kIQ4_XS>::encode(const float* in) {
  const auto plan =
      encode_scaled<ScaledFormat<Iq4Grid, 32, -32, 31>>(*this, in, {{-147.0f, -57.0f, 5.0f}, {63.0f, 128.0f, 5.0f}});
  for (int s = 0; s < 8; ++s) set_scale_code(s, plan.scale[s] + 32);
}

}  // namespace spate
