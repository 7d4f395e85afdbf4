// What the kernels of sampling share: the order of logits, weights of tokens, a row's statistics. Device code, private
// to sampling_*.cu.
#pragma once

#include <cmath>
#include <cstdint>

#include "backend/cuda/sampling.h"

namespace spate::cuda {

inline constexpr int kPartLogits = 4096;  // of a row that one CTA of a scan reads: 32 runs
inline constexpr unsigned kAllLanes = 0xffffffffu;

SPATE_HD constexpr int n_runs(int vocab_size) {
  return static_cast<int>(logits_stride(vocab_size) / kRunLogits);
}
SPATE_HD constexpr int n_parts(int vocab_size) {
  return (vocab_size + kPartLogits - 1) / kPartLogits;
}

#ifdef __CUDACC__

// Floats as integers in the same order, -0 and +0 equal. NaN must have been taken out.
__device__ __forceinline__ uint32_t ordered_key(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float from_ordered_key(uint32_t key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}
inline constexpr uint32_t kKeyOfNothing = 0x007fffffu;  // ordered_key(-infinity)

__device__ __forceinline__ float without_nan(float x) {
  return x > -INFINITY ? x : -INFINITY;
}

// e^z for z <= 0 as softmax.h computes it, to the bit: separate multiplications and additions. 0 for NaN.
__device__ __forceinline__ float exp_nonpositive(float z) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f, kRound = 12582912.0f;
  if (!(z > -87.0f)) return 0;
  const float shifted = __fadd_rn(__fmul_rn(z, kLog2E), kRound);
  const float n = __fsub_rn(shifted, kRound);
  const float r = __fsub_rn(__fsub_rn(z, __fmul_rn(n, kLn2High)), __fmul_rn(n, kLn2Low));
  float p = 1.0f / 5040;
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 720);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  const int exponent = __float_as_int(shifted) - __float_as_int(kRound);
  return __fmul_rn(p, __int_as_float((exponent + 127) << 23));
}

// How many times less likely than the peak a logit is, as an exponent; 0 for the peak, be it infinite.
__device__ __forceinline__ float exponent_of(float logit, float peak, float temperature) {
  if (logit == peak) return 0;
  const float below = __fsub_rn(logit, peak);
  return temperature == 1 ? below : __fdiv_rn(below, temperature);
}
__device__ __forceinline__ float weight_of(float logit, float peak, float temperature) {
  return logit == peak ? 1 : exp_nonpositive(exponent_of(logit, peak, temperature));
}

// A weight in (0, 1] in units of 2^-42: sums of up to 2^19 fit in 62 bits, in any order.
__device__ __forceinline__ uint64_t mass_of(float weight) {
  return __float2ull_rn(weight * 0x1p42f);
}
inline constexpr double kMassUnit = 0x1p-42;

// Sum over a warp of masses below 2^49 (128 weights).
__device__ __forceinline__ uint64_t warp_sum(uint64_t mass) {
  const uint32_t low = __reduce_add_sync(kAllLanes, static_cast<uint32_t>(mass) & 0x1ffffffu);  // 25 bits
  const uint32_t high = __reduce_add_sync(kAllLanes, static_cast<uint32_t>(mass >> 25));
  return (static_cast<uint64_t>(high) << 25) + low;
}

// Four logits of a run, one lane's.
struct Four {
  float x[4];
  int32_t token[4];
};

// Lane's logits of a run of a row in global memory; what lies past the vocabulary and NaN are -infinity.
__device__ __forceinline__ Four load_run(const float* row, int run, int lane, int vocab_size) {
  const int32_t token = run * kRunLogits + lane * 4;
  const float4 x = *reinterpret_cast<const float4*>(row + token);
  Four four = {{x.x, x.y, x.z, x.w}, {token, token + 1, token + 2, token + 3}};
#pragma unroll
  for (int j = 0; j < 4; ++j) four.x[j] = four.token[j] < vocab_size ? without_nan(four.x[j]) : -INFINITY;
  return four;
}

struct Peak {
  float logit;
  int32_t token;  // the first of equals; 0 where there is nothing above -infinity
};

// The greatest logit of a row from its parts, by a whole warp; all lanes get it.
__device__ __forceinline__ Peak merge_peaks(const SamplingScratch::Part* parts, int n, int lane) {
  uint32_t best = kKeyOfNothing;
  for (int i = lane; i < n; i += 32) best = max(best, ordered_key(parts[i].peak));
  best = __reduce_max_sync(kAllLanes, best);
  if (best == kKeyOfNothing) return {-INFINITY, 0};
  uint32_t token = UINT32_MAX;
  for (int i = lane; i < n; i += 32)
    if (ordered_key(parts[i].peak) == best) token = min(token, static_cast<uint32_t>(parts[i].token));
  token = __reduce_min_sync(kAllLanes, token);
  return {from_ordered_key(best), static_cast<int32_t>(token)};
}

// The model's own distribution over a row.
struct ModelRow {
  Peak peak;
  float log_sum;  // of e^(logit - peak)

  __device__ float logprob(float logit) const {
    logit = without_nan(logit);
    if (logit == -INFINITY) return -INFINITY;
    return (logit == peak.logit ? 0 : logit - peak.logit) - log_sum;
  }
};

__device__ __forceinline__ ModelRow merge_model(const SamplingScratch::Part* parts, int n, int lane) {
  const Peak peak = merge_peaks(parts, n, lane);
  float sum = 0;
  for (int i = lane; i < n; i += 32)
    if (parts[i].peak > -INFINITY)
      sum += parts[i].sum * (parts[i].peak == peak.logit ? 1 : expf(parts[i].peak - peak.logit));
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  return {peak, logf(sum)};
}

// Whether a row's logits are changed before a token is drawn.
__device__ __forceinline__ bool is_adjusted(const RowSpec& spec, const SlotRecord& slot) {
  return spec.kind == static_cast<int32_t>(RowKind::kSample) && (slot.n_bias > 0 || slot.has_penalties);
}

__device__ __forceinline__ bool cuts_top_k(const SlotRecord& slot, int vocab_size) {
  return slot.top_k > 0 && slot.top_k < vocab_size;
}

// Whether drawing needs the sum of all weights: not where top-k comes first, or min-p alone cuts.
__device__ __forceinline__ bool needs_masses(const RowSpec& spec, const SlotRecord& slot, int vocab_size) {
  if (spec.kind != static_cast<int32_t>(RowKind::kSample) || slot.temperature == 0) return false;
  return !cuts_top_k(slot, vocab_size) && (slot.typical_p < 1 || slot.top_p < 1 || !(slot.min_p > 0));
}

// Philox4x32-10's first word for (seed, position), its upper 24 bits: uniform_draw() times 2^24.
__device__ __forceinline__ uint32_t uniform_bits(uint64_t seed, uint64_t position) {
  uint32_t counter[4] = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(0xD2511F53u, counter[0]), low0 = 0xD2511F53u * counter[0];
    const uint32_t high1 = __umulhi(0xCD9E8D57u, counter[2]), low1 = 0xCD9E8D57u * counter[2];
    counter[0] = high1 ^ counter[1] ^ key[0];
    counter[1] = low1;
    counter[2] = high0 ^ counter[3] ^ key[1];
    counter[3] = low0;
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter[0] >> 8;
}

__device__ __forceinline__ void write_result(const SampleArgs& args, int row, int32_t token, float logprob) {
  args.drawn[row] = token;
  reinterpret_cast<RowResult*>(args.output)[row] = {token, logprob};
}

#endif  // __CUDACC__

// The launches that sample_rows() is made of.

// Statistics of every row, and bias and penalties where a row has such.
void launch_scan(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream);
// Sums of weights, of the rows whose drawing needs them.
void launch_weigh(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream);
// Draws, log-probabilities, results: kFull.
void launch_draw(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream);

}  // namespace spate::cuda
