#include "quant/plain_recipe.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/check.h"
#include "quant/half.h"
#include "quant/iq4_nl.h"

namespace spate::testing {

namespace {

// A format as far as the plain recipe goes.
struct Shape {
  int block = 32;               // elements that share f16 scales
  int sub = 32;                 // elements that share a scale
  std::vector<float> levels;    // what codes stand for, ascending
  bool has_offset = false;      // offset of any sign in a block of its own; a minimum <= 0 in superblocks
  int top = 0;                  // largest small integer of a superblock's scales; 0: f16 scales
  bool has_signed_top = false;  // -top - 1 .. top instead of 0 .. top
};

std::vector<float> integers(int low, int high) {
  std::vector<float> levels;
  for (int i = low; i <= high; ++i) levels.push_back(static_cast<float>(i));
  return levels;
}

Shape shape_of(QuantType type) {
  const std::vector<float> iq4(std::begin(kIq4Levels), std::end(kIq4Levels));
  switch (type) {
    case QuantType::kQ4_0:
      return {.levels = integers(-8, 7)};
    case QuantType::kQ4_1:
      return {.levels = integers(0, 15), .has_offset = true};
    case QuantType::kQ5_0:
      return {.levels = integers(-16, 15)};
    case QuantType::kQ5_1:
      return {.levels = integers(0, 31), .has_offset = true};
    case QuantType::kQ8_0:
      return {.levels = integers(-127, 127)};
    case QuantType::kIQ4_NL:
      return {.levels = iq4};
    case QuantType::kQ2_K:
      return {.block = 256, .sub = 16, .levels = integers(0, 3), .has_offset = true, .top = 15};
    case QuantType::kQ3_K:
      return {.block = 256, .sub = 16, .levels = integers(-4, 3), .top = 31, .has_signed_top = true};
    case QuantType::kQ4_K:
      return {.block = 256, .sub = 32, .levels = integers(0, 15), .has_offset = true, .top = 63};
    case QuantType::kQ5_K:
      return {.block = 256, .sub = 32, .levels = integers(0, 31), .has_offset = true, .top = 63};
    case QuantType::kQ6_K:
      return {.block = 256, .sub = 16, .levels = integers(-32, 31), .top = 127, .has_signed_top = true};
    case QuantType::kIQ4_XS:
      return {.block = 256, .sub = 32, .levels = iq4, .top = 31, .has_signed_top = true};
    default:
      SPATE_CHECK(false, "{} has no scales", quant_name(type));
      return {};
  }
}

float as_f16(float value) {
  return f16_to_f32(f32_to_f16(std::clamp(value, -65504.0f, 65504.0f)));
}

struct Affine {
  float scale, offset;
};

// Scale and offset that spread the levels over a sub-block.
Affine spread(const Shape& shape, std::span<const float> weights) {
  const auto [low, high] = std::ranges::minmax(weights);
  if (!shape.has_offset) {
    const float peak = std::fabs(low) >= std::fabs(high) ? low : high;
    return {peak / shape.levels.front(), 0};  // the outermost level is the negative one
  }
  const float offset = shape.top > 0 ? std::min(low, 0.0f) : low;
  return {(high - offset) / shape.levels.back(), offset};
}

// Rounds the scales of one block to what the format stores.
void round_scales(const Shape& shape, std::span<Affine> subs) {
  if (shape.top == 0) {
    subs[0] = {as_f16(subs[0].scale), as_f16(subs[0].offset)};
    return;
  }
  const float low = shape.has_signed_top ? static_cast<float>(-shape.top - 1) : 0, high = static_cast<float>(shape.top);
  float peak = 0, lowest = 0;
  for (const Affine& sub : subs) {
    if (std::fabs(sub.scale) > std::fabs(peak)) peak = sub.scale;
    lowest = std::min(lowest, sub.offset);
  }
  const float unit = as_f16(peak / (shape.has_signed_top ? low : high)), minimum_unit = as_f16(-lowest / high);
  for (Affine& sub : subs) {
    sub.scale = unit == 0 ? 0 : unit * std::clamp(std::nearbyint(sub.scale / unit), low, high);
    sub.offset =
        minimum_unit == 0 ? 0 : -minimum_unit * std::clamp(std::nearbyint(-sub.offset / minimum_unit), 0.0f, high);
  }
}

float nearest(const Shape& shape, Affine affine, float weight) {
  float best = affine.scale * shape.levels[0] + affine.offset;
  for (float level : shape.levels) {
    const float value = affine.scale * level + affine.offset;
    if (std::fabs(value - weight) < std::fabs(best - weight)) best = value;
  }
  return best;
}

}  // namespace

std::vector<float> plain_recipe(QuantType type, const std::vector<float>& weights) {
  const Shape shape = shape_of(type);
  std::vector<float> out;
  for (size_t begin = 0; begin < weights.size(); begin += static_cast<size_t>(shape.block)) {
    std::vector<Affine> subs;
    for (int s = 0; s < shape.block / shape.sub; ++s)
      subs.push_back(spread(shape, std::span(weights).subspan(begin + static_cast<size_t>(s * shape.sub), shape.sub)));
    round_scales(shape, subs);
    for (int i = 0; i < shape.block; ++i)
      out.push_back(nearest(shape, subs[static_cast<size_t>(i / shape.sub)], weights[begin + static_cast<size_t>(i)]));
  }
  return out;
}

std::vector<float> plain_steps(QuantType type, const std::vector<float>& weights) {
  const Shape shape = shape_of(type);
  float widest = 0;
  for (size_t i = 1; i < shape.levels.size(); ++i) widest = std::max(widest, shape.levels[i] - shape.levels[i - 1]);
  std::vector<float> steps;
  for (size_t begin = 0; begin < weights.size(); begin += static_cast<size_t>(shape.sub)) {
    const Affine affine = spread(shape, std::span(weights).subspan(begin, static_cast<size_t>(shape.sub)));
    steps.insert(steps.end(), static_cast<size_t>(shape.sub), std::fabs(affine.scale) * widest);
  }
  return steps;
}

}  // namespace spate::testing
