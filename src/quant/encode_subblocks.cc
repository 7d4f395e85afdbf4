// Encoders of the types whose qblocks are 32 weights with scales of their own: Q4_0, Q5_0, Q8_0, IQ4_NL (a scale),
// Q4_1, Q5_1 (a scale and an offset).
#include "quant/code_grid.h"
#include "quant/fit.h"
#include "quant/iq4_nl.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q8_0.h"

namespace spate {

namespace {

constexpr int kElems = kSubblock;

// The better of two scales by the error that is left once they are f16.
template <typename Grid>
HalfScale better_scale(const float* x, float one, float other) {
  const HalfScale a = HalfScale::nearest(one), b = HalfScale::nearest(other);
  return scaled_error<Grid, kElems>(x, a.value) <= scaled_error<Grid, kElems>(x, b.value) ? a : b;
}

// The scale of a qblock. The plain recipe, for which the peak lands on the grid's end, is always among the candidates.
template <typename Grid>
HalfScale encode_scale(const float* x, std::initializer_list<Starts> starts) {
  return better_scale<Grid>(x, fit_scale<Grid, kElems>(x, starts), peak_of<kElems>(x) / Grid::kLow);
}

// grid_value[32]: the nearest to each weight.
template <typename Grid>
void nearest_on_grid(const float* x, float scale, float* grid_value) {
  const Lanes inverse = splat(inverse_or_zero(scale));
  for (int i = 0; i < kElems; i += kLanes) store_lanes(grid_value + i, Grid::nearest(load_lanes(x + i) * inverse));
}

template <typename Grid, typename Block>
void encode_scaled(Block& block, const float* in, std::initializer_list<Starts> starts) {
  alignas(16) float x[kElems], grid_value[kElems];
  load_weights(in, kElems, x);
  const HalfScale scale = encode_scale<Grid>(x, starts);
  nearest_on_grid<Grid>(x, scale.value, grid_value);
  uint8_t code[kElems];
  for (int i = 0; i < kElems; ++i) code[i] = Grid::code(grid_value[i]);
  block.d = scale.bits;
  block.pack(code);
}

struct HalfAffine {
  HalfScale scale, offset;
};

// Rounds the offset to f16, then fits the scale again to what that leaves.
template <typename Grid>
HalfAffine round_affine(const float* x, Affine affine) {
  HalfAffine rounded{.scale = {}, .offset = HalfScale::nearest(affine.offset)};
  alignas(16) float rest[kElems];
  for (int i = 0; i < kElems; ++i) rest[i] = x[i] - rounded.offset.value;
  const ScaleFit refit = fit_at<Grid, kElems>(rest, inverse_or_zero(affine.scale));
  rounded.scale = better_scale<Grid>(rest, refit.scale, affine.scale);
  return rounded;
}

template <int n_levels, typename Block>
void encode_affine(Block& block, const float* in, Starts starts) {
  using Grid = UniformGrid<0, n_levels - 1>;
  alignas(16) float x[kElems], grid_value[kElems];
  load_weights(in, kElems, x);
  const auto [low, high] = std::minmax_element(x, x + kElems);
  const HalfAffine candidates[] = {round_affine<Grid>(x, fit_affine<n_levels, kElems>(x, kNoLimit, starts)),
                                   round_affine<Grid>(x, {(*high - *low) / (n_levels - 1), *low})};
  const auto error = [&](const HalfAffine& a) {
    return affine_error<n_levels, kElems>(x, {a.scale.value, a.offset.value});
  };
  const HalfAffine& best = error(candidates[0]) <= error(candidates[1]) ? candidates[0] : candidates[1];

  for (float& weight : x) weight -= best.offset.value;
  nearest_on_grid<Grid>(x, best.scale.value, grid_value);
  uint8_t code[kElems];
  for (int i = 0; i < kElems; ++i) code[i] = Grid::code(grid_value[i]);
  block.d = best.scale.bits;
  block.m = best.offset.bits;
  block.pack(code);
}

}  // namespace

void Qblock<QuantType::kQ4_0>::encode(const float* in) {
  encode_scaled<UniformGrid<-8, 7>>(*this, in, {{-9.5f, -4.0f, 0.25f}, {4.0f, 8.5f, 0.25f}});
}

void Qblock<QuantType::kQ5_0>::encode(const float* in) {
  encode_scaled<UniformGrid<-16, 15>>(*this, in, {{-17.5f, -10.0f, 0.25f}, {10.0f, 16.5f, 0.25f}});
}

void Qblock<QuantType::kIQ4_NL>::encode(const float* in) {
  encode_scaled<Iq4Grid>(*this, in, {{-147.0f, -57.0f, 5.0f}, {63.0f, 128.0f, 5.0f}});
}

// -128 stays unused: kernels take the magnitude of a code in 8 bits.
void Qblock<QuantType::kQ8_0>::encode(const float* in) {
  using Grid = UniformGrid<-127, 127>;
  alignas(16) float x[kElems], grid_value[kElems];
  load_weights(in, kElems, x);
  const HalfScale scale = encode_scale<Grid>(x, {{125.0f, 127.5f, 0.25f}});
  nearest_on_grid<Grid>(x, scale.value, grid_value);
  d = scale.bits;
  for (int i = 0; i < kElems; ++i) qs[i] = static_cast<int8_t>(grid_value[i]);
}

void Qblock<QuantType::kQ4_1>::encode(const float* in) {
  encode_affine<16>(*this, in, {12.0f, 16.5f, 0.25f});
}

void Qblock<QuantType::kQ5_1>::encode(const float* in) {
  encode_affine<32>(*this, in, {27.0f, 32.5f, 0.25f});
}

}  // namespace spate
