// The passes over all logits of all rows, many CTAs a row: statistics, bias and penalties, sums of weights. A CTA's
// share is fixed (kPartLogits), so that nothing depends on how many rows there are.
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/sampling_device.h"

namespace spate::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kRunsPerWarp = kPartLogits / kRunLogits / kWarps;

// A thread's logits of the part: run j of its warp, four of them.
using Logits = float[kRunsPerWarp][4];

__device__ __forceinline__ int run_of(int j) {
  return (blockIdx.x * kRunsPerWarp + j) * kWarps + threadIdx.x / 32;
}

// Run maxima, and the part's greatest logit, its first token and (with_sum) the sum of exponentials.
__device__ __forceinline__ SamplingScratch::Part reduce_part(const Logits& x, uint32_t* run_maxima, int runs,
                                                             bool with_sum) {
  __shared__ uint32_t keys[kWarps], tokens[kWarps];
  __shared__ float sums[kWarps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t best = kKeyOfNothing;
  for (int j = 0; j < kRunsPerWarp; ++j) {
    uint32_t key = kKeyOfNothing;
    for (int i = 0; i < 4; ++i) key = max(key, ordered_key(x[j][i]));
    key = __reduce_max_sync(kAllLanes, key);
    if (lane == 0 && run_of(j) < runs) run_maxima[run_of(j)] = key;
    best = max(best, key);
  }
  if (lane == 0) keys[warp] = best;
  __syncthreads();
  for (int i = 0; i < kWarps; ++i) best = max(best, keys[i]);
  const float peak = from_ordered_key(best);
  uint32_t token = UINT32_MAX;
  float sum = 0;
  for (int j = 0; j < kRunsPerWarp; ++j)
    for (int i = 0; i < 4; ++i) {
      const bool is_peak = ordered_key(x[j][i]) == best;
      if (is_peak) token = min(token, static_cast<uint32_t>(run_of(j) * kRunLogits + lane * 4 + i));
      if (with_sum) sum += is_peak ? 1 : exp2f((x[j][i] - peak) * 1.44269504f);
    }
  token = __reduce_min_sync(kAllLanes, token);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  if (lane == 0) tokens[warp] = token, sums[warp] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < kWarps; ++i) token = min(token, tokens[i]), sum += sums[i];
  if (best == kKeyOfNothing) return {-INFINITY, 0, 0, 0};
  return {peak, static_cast<int32_t>(token), sum, 0};
}

// The first of n biases, by ascending token, whose token is not below `token`.
__device__ __forceinline__ int lower_bound(const LogitBias* bias, int n, int token) {
  int begin = 0;
  while (n > 0) {
    const int half = n / 2;
    if (bias[begin + half].token < token) {
      begin += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return begin;
}

// logits[token] += bias for the part's tokens; biases of one token in the order they were given.
__device__ __forceinline__ void add_bias(Logits& x, const LogitBias* bias, int n_bias) {
  __shared__ __align__(16) float tile[kPartLogits];
  const int part_token = blockIdx.x * kPartLogits;
  const int begin = lower_bound(bias, n_bias, part_token), end = lower_bound(bias, n_bias, part_token + kPartLogits);
  if (begin == end) return;
  const auto place = [&](int j) {
    return reinterpret_cast<float4*>(tile + run_of(j) * kRunLogits - part_token) + threadIdx.x % 32;
  };
  for (int j = 0; j < kRunsPerWarp; ++j) *place(j) = make_float4(x[j][0], x[j][1], x[j][2], x[j][3]);
  __syncthreads();
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
    const int32_t token = bias[i].token;
    if (i > begin && bias[i - 1].token == token) continue;
    float logit = tile[token - part_token];
    for (int k = i; k < end && bias[k].token == token; ++k) logit = __fadd_rn(logit, bias[k].bias);
    tile[token - part_token] = without_nan(logit);
  }
  __syncthreads();
  for (int j = 0; j < kRunsPerWarp; ++j) {
    const float4 biased = *place(j);
    x[j][0] = biased.x, x[j][1] = biased.y, x[j][2] = biased.z, x[j][3] = biased.w;
  }
}

__device__ __forceinline__ float penalised(float logit, uint32_t count, const SlotRecord& slot) {
  if (count == 0) return logit;
  logit = logit > 0 ? __fdiv_rn(logit, slot.repetition_penalty) : __fmul_rn(logit, slot.repetition_penalty);
  const uint32_t times = count & kTimesGenerated;
  if (times > 0)
    logit = __fsub_rn(logit,
                      __fadd_rn(slot.presence_penalty, __fmul_rn(slot.frequency_penalty, static_cast<float>(times))));
  return without_nan(logit);
}

__device__ __forceinline__ void add_penalties(Logits& x, const uint32_t* counts, int runs, const SlotRecord& slot) {
  for (int j = 0; j < kRunsPerWarp; ++j) {
    if (run_of(j) >= runs) continue;
    const uint4 count = reinterpret_cast<const uint4*>(counts + run_of(j) * kRunLogits)[threadIdx.x % 32];
    x[j][0] = penalised(x[j][0], count.x, slot);
    x[j][1] = penalised(x[j][1], count.y, slot);
    x[j][2] = penalised(x[j][2], count.z, slot);
    x[j][3] = penalised(x[j][3], count.w, slot);
  }
}

// CTA (part, row of the slice).
__global__ __launch_bounds__(kThreads) void scan_kernel(SampleArgs args) {
  release_successor();
  wait_for_predecessor();
  const int row = blockIdx.y;
  if (args.first_row + row >= *args.n_rows_real) return;
  const RowSpec spec = args.rows[args.first_row + row];
  if (spec.kind == static_cast<int32_t>(RowKind::kHidden)) return;
  const int runs = n_runs(args.vocab_size), parts = n_parts(args.vocab_size), lane = threadIdx.x % 32;
  const int64_t stride = logits_stride(args.vocab_size);

  Logits x;
  for (int j = 0; j < kRunsPerWarp; ++j) {
    Four four = {{-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {}};
    if (run_of(j) < runs) four = load_run(args.logits + row * stride, run_of(j), lane, args.vocab_size);
    for (int i = 0; i < 4; ++i) x[j][i] = four.x[i];
  }
  const SamplingScratch& scratch = args.scratch;
  const auto model = reduce_part(x, scratch.run_maxima + static_cast<int64_t>(row) * runs, runs, true);
  if (threadIdx.x == 0) scratch.parts[row * parts + blockIdx.x] = model;

  const SlotRecord slot = args.slots.records[spec.slot];
  if (!is_adjusted(spec, slot)) return;
  if (slot.n_bias > 0) add_bias(x, args.slots.bias + static_cast<int64_t>(spec.slot) * kMaxLogitBias, slot.n_bias);
  if (slot.has_penalties) add_penalties(x, args.slots.counts + spec.slot * stride, runs, slot);
  for (int j = 0; j < kRunsPerWarp; ++j)
    if (run_of(j) < runs)
      reinterpret_cast<float4*>(scratch.adjusted + row * stride + run_of(j) * kRunLogits)[lane] =
          make_float4(x[j][0], x[j][1], x[j][2], x[j][3]);
  __syncthreads();  // all have read the statistics before
  const int64_t place = scratch.max_slice_rows + row;
  const auto adjusted = reduce_part(x, scratch.run_maxima + place * runs, runs, false);
  if (threadIdx.x == 0) scratch.parts[place * parts + blockIdx.x] = adjusted;
}

// CTA (part, row of the slice).
__global__ __launch_bounds__(kThreads) void weigh_kernel(SampleArgs args) {
  release_successor();
  wait_for_predecessor();
  const int row = blockIdx.y;
  if (args.first_row + row >= *args.n_rows_real) return;
  const RowSpec spec = args.rows[args.first_row + row];
  const SlotRecord slot = args.slots.records[spec.slot];
  if (!needs_masses(spec, slot, args.vocab_size)) return;
  const int runs = n_runs(args.vocab_size), parts = n_parts(args.vocab_size), lane = threadIdx.x % 32;
  const bool adjusted = is_adjusted(spec, slot);
  const int64_t place = row + (adjusted ? args.scratch.max_slice_rows : 0);
  const float* logits = (adjusted ? args.scratch.adjusted : args.logits) + row * logits_stride(args.vocab_size);
  const uint32_t* maxima = args.scratch.run_maxima + place * runs;
  const float peak = merge_peaks(args.scratch.parts + place * parts, parts, lane).logit;
  if (peak == -INFINITY) return;
  for (int j = 0; j < kRunsPerWarp; ++j) {
    const int run = run_of(j);
    if (run >= runs) return;
    uint64_t mass = 0;
    // e^-30 is less than half a unit of mass.
    if (exponent_of(from_ordered_key(maxima[run]), peak, slot.temperature) > -30) {
      const Four four = load_run(logits, run, lane, args.vocab_size);
      for (int i = 0; i < 4; ++i) mass += mass_of(weight_of(four.x[i], peak, slot.temperature));
      mass = warp_sum(mass);
    }
    if (lane == 0) args.scratch.run_masses[static_cast<int64_t>(row) * runs + run] = mass;
  }
}

dim3 grid_of(const SampleArgs& args, int n_rows) {
  return {static_cast<unsigned>(n_parts(args.vocab_size)), static_cast<unsigned>(n_rows)};
}

}  // namespace

void launch_scan(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream) {
  SPATE_CUDA(launch({.grid = grid_of(args, n_rows), .block = kThreads, .stream = stream, .dependent = dependent},
                    scan_kernel, args),
             "scanning {} rows of {} logits", n_rows, args.vocab_size);
}

void launch_weigh(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream) {
  SPATE_CUDA(launch({.grid = grid_of(args, n_rows), .block = kThreads, .stream = stream, .dependent = dependent},
                    weigh_kernel, args),
             "weighing {} rows of {} logits", n_rows, args.vocab_size);
}

}  // namespace spate::cuda
