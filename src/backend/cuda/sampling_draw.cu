// Drawing a token: one CTA a row. The filters in their order, each a bound on what it orders by; then the cumulative
// sum over ascending tokens, inverted.
#include "backend/cuda/cuda_check.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/sampling_select.h"

namespace spate::cuda {
namespace {

// Top-k first looks among the logits over the k-th greatest run maximum; beyond this many the list would not hold them.
constexpr int kMaxNearTopK = 1024;
// Top-p first looks for its share among the logits over this run maximum: a few hundred, where most nuclei end.
constexpr int kNucleusRuns = 128;

// What the filters so far have left of a row.
struct Filter {
  float peak, temperature;
  Bound logit;    // top-k
  Bound typical;  // of typical_key
  Bound weight;   // top-p
  float min_weight = 0;
  bool is_typical = false;
  float log_total = 0, entropy = 0;  // of the distribution that typical sampling saw

  __device__ float log_probability(float x) const { return __fsub_rn(exponent_of(x, peak, temperature), log_total); }
  // How near a token's information content lies to the entropy; greatest first.
  __device__ uint32_t typical_key(float x) const { return ordered_key(-fabsf(__fadd_rn(log_probability(x), entropy))); }
  // The weight of a token that is left; 0 for others.
  __device__ float weight_of_left(float x, int32_t token) const {
    const float w = weight_of(x, peak, temperature);
    const bool left = w > 0 && w >= min_weight && weight.admits(__float_as_uint(w), token) &&
                      logit.admits(ordered_key(x), token) && (!is_typical || typical.admits(typical_key(x), token));
    return left ? w : 0;
  }
  __device__ uint64_t mass_of_left(float x, int32_t token) const { return mass_of(weight_of_left(x, token)); }
};

// Drawing from one row.
struct Drawing {
  Source source;
  Filter filter;
  const uint64_t* run_masses;  // [n_runs] of the row with nothing filtered, where needs_masses()
  bool is_whole = true;        // nothing has been filtered, and run_masses are there
};

// The mass of all that is left; leaves the sums before each unit.
__device__ __noinline__ uint64_t sum_left(const Drawing& drawing) {
  const Source source = drawing.source;
  const Filter filter = drawing.filter;
  if (!drawing.is_whole)
    return fill_units(source, [&](float x, int32_t token) { return filter.mass_of_left(x, token); });
  for (int i = threadIdx.x; i < source.n_units(); i += kDrawThreads) draw_units()[i] = drawing.run_masses[i];
  __syncthreads();
  return scan_units(source.n_units());
}

// Runs all of whose weights lie below `weight` need not be read. The bound is lowered by more than rounding can matter.
__device__ __forceinline__ void raise_floor(Drawing& drawing, float weight) {
  const Filter& filter = drawing.filter;
  if (!(weight > 0)) return;
  float floor = filter.peak + filter.temperature * (logf(weight) - 1e-3f);
  floor -= 1e-6f * fmaxf(fabsf(floor), fabsf(filter.peak));
  if (floor > -INFINITY && floor < INFINITY)
    drawing.source.floor_key = max(drawing.source.floor_key, ordered_key(floor));
}

__device__ __forceinline__ void keep_top_k(Drawing& drawing, int k) {
  Source& source = drawing.source;
  if (k <= kMaxNearTopK) source.n_list = make_list(source, {nth_run_maximum(source, k), INT32_MAX});
  if (!source.is_list() || source.n_list > k) drawing.filter.logit = greatest(source, k);
  if (!source.is_list()) {
    source.floor_key = max(source.floor_key, drawing.filter.logit.key);
    source.n_list = make_list(source, drawing.filter.logit);
  }
  drawing.is_whole = false;
}

// The sum over all threads, in a fixed order.
__device__ __forceinline__ double block_sum(double value) {
  DrawShared& shared = draw_shared();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto all_lanes = [](double x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
    return x;
  };
  value = all_lanes(value);
  if (lane == 0) shared.warp_sum[warp] = value;
  __syncthreads();
  value = all_lanes(shared.warp_sum[lane]);
  __syncthreads();
  return value;
}

// Mass that is wanted of a total: its share, at least the least there is.
__device__ __forceinline__ uint64_t share_of(uint64_t total, float share) {
  const double wanted = ceil(static_cast<double>(share) * static_cast<double>(total));
  return max(uint64_t{1}, min(total, static_cast<uint64_t>(wanted)));
}

__device__ __noinline__ void keep_typical(Drawing& drawing, float typical_p) {
  const uint64_t total = sum_left(drawing);
  const Source source = drawing.source;
  Filter filter = drawing.filter;
  const double weights = static_cast<double>(total) * kMassUnit;
  filter.log_total = static_cast<float>(log(weights));
  double sum = 0;
  for_each_unit(source, [&](int, const Four& four) {
    for (int j = 0; j < 4; ++j) {
      const float w = filter.weight_of_left(four.x[j], four.token[j]);
      if (w > 0) sum -= static_cast<double>(w) * static_cast<double>(filter.log_probability(four.x[j]));
    }
  });
  filter.entropy = static_cast<float>(block_sum(sum) / weights);
  const auto keyed = [&](float x, int32_t token) -> Keyed {
    return {filter.typical_key(x), filter.mass_of_left(x, token)};
  };
  drawing.filter.typical = bound_of(source, select_from(source, share_of(total, typical_p), keyed), keyed);
  drawing.filter.log_total = filter.log_total;
  drawing.filter.entropy = filter.entropy;
  drawing.filter.is_typical = true;
  drawing.is_whole = false;
}

__device__ __noinline__ void keep_nucleus(Drawing& drawing, float top_p) {
  const uint64_t wanted = share_of(sum_left(drawing), top_p);
  const Filter filter = drawing.filter;
  const auto keyed = [&](float x, int32_t token) -> Keyed {
    const float w = filter.weight_of_left(x, token);
    return {__float_as_uint(w), mass_of(w)};
  };
  Source source = drawing.source;
  float certain = 0;  // the list holds every token of greater weight
  if (!source.is_list()) {
    const uint32_t floor = nth_run_maximum(source, kNucleusRuns);
    source.n_list = make_list(source, {floor, INT32_MAX});
    // Weights follow logits up to rounding alone.
    if (floor > kKeyOfNothing + 1)
      certain = 1.00001f * weight_of(from_ordered_key(floor), filter.peak, filter.temperature);
  }
  Selected selected = select_from(source, wanted, keyed);
  if (source.is_list() && !drawing.source.is_list() && (selected.all || __uint_as_float(selected.key) <= certain)) {
    source = drawing.source;
    selected = select_from(source, wanted, keyed);
  }
  drawing.source = source;
  drawing.filter.weight = bound_of(source, selected, keyed);
  raise_floor(drawing, __uint_as_float(drawing.filter.weight.key));
  drawing.is_whole = false;
}

__device__ __forceinline__ void keep_min_p(Drawing& drawing, float min_p) {
  float most = 1;  // of the peak, which only typical sampling takes away
  if (drawing.filter.is_typical) {
    const Filter filter = drawing.filter;
    uint32_t bits = 0;
    for_each_unit(drawing.source, [&](int, const Four& four) {
      for (int j = 0; j < 4; ++j) bits = max(bits, __float_as_uint(filter.weight_of_left(four.x[j], four.token[j])));
    });
    bits = __reduce_max_sync(kAllLanes, bits);
    if (threadIdx.x % 32 == 0) draw_shared().warp_total[threadIdx.x / 32] = bits;
    __syncthreads();
    bits = __reduce_max_sync(kAllLanes, static_cast<uint32_t>(draw_shared().warp_total[threadIdx.x % 32]));
    __syncthreads();
    most = __uint_as_float(bits);
  }
  drawing.filter.min_weight = __fmul_rn(min_p, most);
  raise_floor(drawing, drawing.filter.min_weight);
  drawing.is_whole = false;
}

__device__ int32_t draw_token(Drawing& drawing, const SlotRecord& slot, int64_t position) {
  if (cuts_top_k(slot, drawing.source.vocab_size)) keep_top_k(drawing, slot.top_k);
  if (slot.typical_p < 1) keep_typical(drawing, slot.typical_p);
  if (slot.top_p < 1) keep_nucleus(drawing, slot.top_p);
  if (slot.min_p > 0) keep_min_p(drawing, slot.min_p);
  const uint64_t total = sum_left(drawing);
  const uint64_t bits = uniform_bits(slot.seed, static_cast<uint64_t>(position));  // of 2^24
  const uint64_t target = (__umul64hi(total, bits) << 40) | (total * bits >> 24);
  const Filter filter = drawing.filter;
  return search(drawing.source, target, [&](float x, int32_t token) { return filter.mass_of_left(x, token); });
}

// The n most likely tokens, most likely first; tokens without probability follow by id where there are fewer.
__device__ __noinline__ void write_top(Source source, const ModelRow& model, int n, int32_t* out) {
  DrawShared& shared = draw_shared();
  Bound bound = {nth_run_maximum(source, n), INT32_MAX};
  source.n_list = make_list(source, bound);
  if (!source.is_list() || source.n_list > n) bound = greatest(source, n);
  if (!source.is_list()) source.n_list = make_list(source, bound);  // there were a great many equal logits
  if (threadIdx.x == 0) shared.n_top = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < source.n_list; i += kDrawThreads) {
    const uint32_t key = ordered_key(shared.list_logit[i]);
    if (!bound.admits(key, shared.list_token[i])) continue;
    const int at = atomicAdd(&shared.n_top, 1);  // in any order: they are ranked below
    shared.top_key[at] = key;
    shared.top_token[at] = shared.list_token[i];
  }
  __syncthreads();
  const int n_found = shared.n_top;
  for (int i = threadIdx.x; i < n_found; i += kDrawThreads) {
    const uint32_t key = shared.top_key[i];
    const int32_t token = shared.top_token[i];
    int rank = 0;
    for (int other = 0; other < n_found; ++other)
      rank += shared.top_key[other] > key || (shared.top_key[other] == key && shared.top_token[other] < token);
    out[2 * rank] = token;
    out[2 * rank + 1] = __float_as_int(model.logprob(from_ordered_key(key)));
  }
  if (threadIdx.x == 0)
    for (int at = n_found, token = 0; at < n; ++token) {
      if (source.row[token] > -INFINITY) continue;
      out[2 * at] = token;
      out[2 * at + 1] = __float_as_int(-INFINITY);
      ++at;
    }
  __syncthreads();
}

// CTA: row of the slice.
__global__ __launch_bounds__(kDrawThreads) void draw_kernel(SampleArgs args) {
  release_successor();
  wait_for_predecessor();
  const int row = blockIdx.x, index = args.first_row + row;
  if (index >= *args.n_rows_real) return;
  const RowSpec spec = args.rows[index];
  if (spec.kind == static_cast<int32_t>(RowKind::kHidden)) return;
  const int runs = n_runs(args.vocab_size), parts = n_parts(args.vocab_size), lane = threadIdx.x % 32;
  const float* logits = args.logits + row * logits_stride(args.vocab_size);
  const ModelRow model = merge_model(args.scratch.parts + static_cast<int64_t>(row) * parts, parts, lane);
  Source source = {.row = logits,
                   .maxima = args.scratch.run_maxima + static_cast<int64_t>(row) * runs,
                   .vocab_size = args.vocab_size};
  if (spec.n_logprobs > 0)
    write_top(source, model, spec.n_logprobs, reinterpret_cast<int32_t*>(args.output) + spec.output_offset);
  if (spec.kind == static_cast<int32_t>(RowKind::kScore)) {
    if (threadIdx.x == 0) write_result(args, index, model.peak.token, model.logprob(logits[spec.target]));
    return;
  }

  const SlotRecord slot = args.slots.records[spec.slot];
  Peak peak = model.peak;
  if (is_adjusted(spec, slot)) {
    const int64_t place = args.scratch.max_slice_rows + row;
    peak = merge_peaks(args.scratch.parts + place * parts, parts, lane);
    source.row = args.scratch.adjusted + row * logits_stride(args.vocab_size);
    source.maxima = args.scratch.run_maxima + place * runs;
  }
  int32_t token = peak.token;
  if (slot.temperature > 0 && peak.logit > -INFINITY) {
    Drawing drawing = {.source = source,
                       .filter = {.peak = peak.logit, .temperature = slot.temperature},
                       .run_masses = args.scratch.run_masses + static_cast<int64_t>(row) * runs,
                       .is_whole = needs_masses(spec, slot, args.vocab_size)};
    token = draw_token(drawing, slot, spec.position);
  }
  if (threadIdx.x == 0) write_result(args, index, token, model.logprob(logits[token]));
}

}  // namespace

void launch_draw(const SampleArgs& args, int n_rows, bool dependent, cudaStream_t stream) {
  SPATE_CUDA(launch({.grid = static_cast<unsigned>(n_rows),
                     .block = kDrawThreads,
                     .shared_bytes = draw_shared_bytes(args.vocab_size),
                     .stream = stream,
                     .dependent = dependent},
                    draw_kernel, args),
             "drawing from {} rows of {} logits", n_rows, args.vocab_size);
}

}  // namespace spate::cuda
