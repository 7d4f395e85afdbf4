// The passes over a whole vocabulary that the sampler makes: the greatest logit, and sums of exponentials. Private to
// sampler.cc.
//
// In explicit vectors of four, because the compiler leaves such loops scalar (a comparison might trap), and a softmax
// over 152k logits is then the sampler's main cost; and in a fixed order of summation, so that the results are the same
// on every machine.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

namespace spate::softmax {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr size_t kBlock = 1024;  // elements summed in float32 before they join a float64 sum

using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));

inline Float4 broadcast(float x) {
  return Float4{x, x, x, x};
}

inline Float4 load(const float* x) {
  Float4 out;
  std::memcpy(&out, x, sizeof(out));
  return out;
}

// The first n < 4 elements, then -infinity.
inline Float4 load_partial(const float* x, size_t n) {
  Float4 out = broadcast(-kInfinity);
  for (size_t i = 0; i < n; ++i) out[i] = x[i];
  return out;
}

// Calls fn(Float4 elements, size_t index of the first, int lane of 4) over all elements, padded with -infinity.
template <typename Fn>
inline void for_each_4(std::span<const float> x, Fn&& fn) {
  size_t i = 0;
  for (; i + 16 <= x.size(); i += 16) {
    fn(load(x.data() + i), i, 0);
    fn(load(x.data() + i + 4), i + 4, 1);
    fn(load(x.data() + i + 8), i + 8, 2);
    fn(load(x.data() + i + 12), i + 12, 3);
  }
  for (; i + 4 <= x.size(); i += 4) fn(load(x.data() + i), i, 0);
  if (i < x.size()) fn(load_partial(x.data() + i, x.size() - i), i, 0);
}

// e^x for x <= 0; 0 below -87, where float32 runs out of normal numbers, and for NaN. Relative error below 2e-7.
inline Float4 exp_nonpositive(Float4 x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // ln 2 = high + low; n * high is exact
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Float4 min = broadcast(-87.0f);
  const Int4 in_range = x > min;
  const Float4 clamped = in_range ? x : min;
  const Float4 shifted = clamped * kLog2E + kRound;
  const Float4 n = shifted - kRound;
  const Float4 r = (clamped - n * kLn2High) - n * kLn2Low;  // |r| <= ln 2 / 2: eight Taylor terms leave 6e-9
  Float4 p = broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Int4 exponent = std::bit_cast<Int4>(shifted) - std::bit_cast<int32_t>(kRound);
  const Float4 scale = std::bit_cast<Float4>((exponent + 127) << 23);
  return in_range ? p * scale : broadcast(0);
}

// e^((logit - max) / temperature) for logit <= max; 1 for logit = max, be it infinite; 0 for NaN.
inline Float4 weights(Float4 logits, float max, float temperature) {
  return logits == max ? broadcast(1) : exp_nonpositive((logits - max) / temperature);
}
inline float weight(float logit, float max, float temperature) {
  return weights(broadcast(logit), max, temperature)[0];
}

struct Peak {
  int32_t token = 0;
  float logit = -kInfinity;
};

// The greatest logit, the first of equals; token 0 where all are -infinity or NaN.
inline Peak arg_max(std::span<const float> logits) {
  Peak best;
  size_t best_begin = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const auto block = logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    Float4 lanes[4] = {broadcast(-kInfinity), broadcast(-kInfinity), broadcast(-kInfinity), broadcast(-kInfinity)};
    for_each_4(block, [&](Float4 x, size_t, int lane) { lanes[lane] = x > lanes[lane] ? x : lanes[lane]; });
    for (const Float4 lane : lanes)
      for (int j = 0; j < 4; ++j)
        if (lane[j] > best.logit) best.logit = lane[j], best_begin = begin;
  }
  if (best.logit > -kInfinity)
    best.token =
        static_cast<int32_t>(std::find(logits.begin() + best_begin, logits.end(), best.logit) - logits.begin());
  return best;
}

// Sum of e^(logit - max), max finite or the greatest of them.
inline double sum_of_weights(std::span<const float> logits, float max) {
  double sum = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const auto block = logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    Float4 lanes[4] = {};
    for_each_4(block, [&](Float4 x, size_t, int lane) { lanes[lane] += weights(x, max, 1); });
    for (const Float4 lane : lanes)
      for (int j = 0; j < 4; ++j) sum += lane[j];
  }
  return sum;
}

// The model's own distribution.
struct LogSoftmax {
  Peak peak;
  float log_sum;  // of e^(logit - peak)

  explicit LogSoftmax(std::span<const float> logits)
      : peak(arg_max(logits)), log_sum(static_cast<float>(std::log(sum_of_weights(logits, peak.logit)))) {}

  float logprob(float logit) const {
    if (!(logit > -kInfinity)) return -kInfinity;
    return (logit == peak.logit ? 0 : logit - peak.logit) - log_sum;
  }
};

}  // namespace spate::softmax
