// Four float32 lanes, in the compiler's own vector extension: as fast as encoders need on any processor, and the same
// bits on all of them, for every sum has one order.
#pragma once

#include <cstring>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

namespace spate {

using Lanes = float __attribute__((vector_size(16)));
inline constexpr int kLanes = 4;

inline Lanes splat(float value) {
  return Lanes{value, value, value, value};
}

inline Lanes load_lanes(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline void store_lanes(float* to, Lanes lanes) {
  std::memcpy(to, &lanes, sizeof lanes);
}

inline float sum_lanes(Lanes lanes) {
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// lo where lanes are NaN. (gcc 12 does not see that the comparisons are what these instructions do.)
inline Lanes clamp_lanes(Lanes lanes, float lo, float hi) {
#ifdef __SSE__
  return _mm_min_ps(_mm_max_ps(lanes, splat(lo)), splat(hi));
#else
  lanes = lanes > splat(lo) ? lanes : splat(lo);
  return lanes < splat(hi) ? lanes : splat(hi);
#endif
}

// To the nearest integer, ties to even; |lanes| <= 2^22. Adding 1.5 * 2^23 leaves no bits for a fraction.
inline Lanes round_lanes(Lanes lanes) {
  const Lanes shift = splat(0x1.8p23f);
  return (lanes + shift) - shift;
}

}  // namespace spate
