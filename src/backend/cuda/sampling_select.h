// How one CTA selects among the logits of one row: the k greatest, the fewest that hold a share of the mass, the token
// at which a cumulative sum passes a target. Device code, private to sampling_draw.cu.
//
// All sums are of integers, so neither the order of threads nor that of atomics can change a result. Nothing is sorted:
// a threshold is found digit by digit (a radix select over 32-bit keys with a histogram of mass), and what stands at
// the threshold is cut by token id. Run maxima keep most of the vocabulary from ever being read: the k greatest logits
// are at least the k-th greatest of the run maxima.
//
// Every function here is called by all threads of the CTA together, and leaves them synchronised.
#pragma once

#include "backend/cuda/sampling_device.h"

namespace spate::cuda {

inline constexpr int kDrawThreads = 1024, kDrawWarps = kDrawThreads / 32;
inline constexpr int kListCapacity = 4096;
inline constexpr int kBins = 2 * kDrawThreads;  // of a digit: 11 bits

struct DrawShared {
  float list_logit[kListCapacity];  // what is left of a row, by ascending token
  int32_t list_token[kListCapacity];
  uint32_t bin_low[kBins], bin_high[kBins];  // halves of the bins' masses: shared memory adds 32 bits at a time
  uint64_t warp_total[kDrawWarps];
  double warp_sum[kDrawWarps];
  uint64_t rest, tie;
  uint32_t digit;
  int32_t found_unit, found_token;
  int32_t n_top;
  uint32_t top_key[kMaxLogprobs];
  int32_t top_token[kMaxLogprobs];
};
static_assert(sizeof(DrawShared) % 16 == 0);

inline size_t draw_shared_bytes(int vocab_size) {
  return sizeof(DrawShared) + sizeof(uint64_t) * static_cast<size_t>(n_runs(vocab_size));
}

#ifdef __CUDACC__

__device__ __forceinline__ DrawShared& draw_shared() {
  extern __shared__ __align__(16) unsigned char draw_shared_memory[];
  return *reinterpret_cast<DrawShared*>(draw_shared_memory);
}
// [n_runs] a number for each unit of a source, behind the rest.
__device__ __forceinline__ uint64_t* draw_units() {
  return reinterpret_cast<uint64_t*>(&draw_shared() + 1);
}

// Where logits are read from, in units of kRunLogits: a row in global memory, or the list in shared memory.
struct Source {
  const float* row;
  const uint32_t* maxima;  // [n_runs] of the row
  int vocab_size;
  uint32_t floor_key = kKeyOfNothing + 1;  // runs whose maximum lies below are left out
  int n_list = -1;                         // entries of the list; -1: the row

  __device__ bool is_list() const { return n_list >= 0; }
  __device__ int n_units() const { return is_list() ? (n_list + kRunLogits - 1) / kRunLogits : n_runs(vocab_size); }
  __device__ bool has_unit(int unit) const { return is_list() || maxima[unit] >= floor_key; }
  // By a whole warp.
  __device__ Four load(int unit, int lane) const {
    if (!is_list()) return load_run(row, unit, lane, vocab_size);
    const int i = unit * kRunLogits + lane * 4;
    const float4 x = *reinterpret_cast<const float4*>(draw_shared().list_logit + i);
    const int4 token = *reinterpret_cast<const int4*>(draw_shared().list_token + i);
    Four four = {{x.x, x.y, x.z, x.w}, {token.x, token.y, token.z, token.w}};
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (i + j >= n_list) four.x[j] = -INFINITY;
    return four;
  }
};

// Calls fn(unit, Four) for every unit of the source, each by a whole warp. Neighbours go to different warps, since
// frequent tokens have neighbouring ids; in a row by fours, since 32 bytes of maxima are read at a time.
template <typename Fn>
__device__ __forceinline__ void for_each_unit(const Source& source, Fn fn) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_units = source.n_units();
  const int group_log2 = source.is_list() ? 0 : 2;
  const auto place = [&](int i) {
    const int in_group = i & ((1 << group_log2) - 1);
    return (((i >> group_log2) * kDrawWarps + warp) << group_log2) + in_group;
  };
  for (int base = 0; base < n_units; base += kDrawThreads) {
    const int candidate = base + place(lane);
    unsigned pending = __ballot_sync(kAllLanes, candidate < n_units && source.has_unit(candidate));
    if (pending == 0) continue;
    int unit = base + place(__ffs(pending) - 1);
    Four next = source.load(unit, lane);
    while (pending != 0) {
      const Four four = next;
      const int current = unit;
      pending &= pending - 1;
      if (pending != 0) {
        unit = base + place(__ffs(pending) - 1);
        next = source.load(unit, lane);
      }
      fn(current, four);
    }
  }
}

// The sum of `value` over the threads before this one; `total` over all.
__device__ __forceinline__ uint64_t block_scan(uint64_t value, uint64_t& total) {
  DrawShared& shared = draw_shared();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto warp_scan = [lane](uint64_t inclusive) {
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint64_t before = __shfl_up_sync(kAllLanes, inclusive, offset);
      if (lane >= offset) inclusive += before;
    }
    return inclusive;
  };
  const uint64_t inclusive = warp_scan(value);
  if (lane == 31) shared.warp_total[warp] = inclusive;
  __syncthreads();
  const uint64_t warps = warp_scan(shared.warp_total[lane]);
  total = __shfl_sync(kAllLanes, warps, 31);
  const uint64_t before_warp = __shfl_sync(kAllLanes, warps, warp > 0 ? warp - 1 : 0);
  __syncthreads();  // warp_total may be written again
  return (warp > 0 ? before_warp : 0) + inclusive - value;
}

// Turns units[n] into the sums before each; returns the sum of all.
__device__ __forceinline__ uint64_t scan_units(int n) {
  uint64_t* units = draw_units();
  const int each = (n + kDrawThreads - 1) / kDrawThreads;
  const int begin = min(static_cast<int>(threadIdx.x) * each, n), end = min(begin + each, n);
  uint64_t sum = 0, total = 0;
  for (int i = begin; i < end; ++i) sum += units[i];
  uint64_t before = block_scan(sum, total);
  for (int i = begin; i < end; ++i) {
    const uint64_t value = units[i];
    units[i] = before;
    before += value;
  }
  __syncthreads();
  return total;
}

// units[u] = the mass before unit u; returns the total. mass(logit, token): below 2^44.
template <typename Mass>
__device__ __forceinline__ uint64_t fill_units(const Source& source, Mass mass) {
  uint64_t* units = draw_units();
  for (int i = threadIdx.x; i < source.n_units(); i += kDrawThreads) units[i] = 0;
  __syncthreads();
  for_each_unit(source, [&](int unit, const Four& four) {
    uint64_t sum = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += mass(four.x[j], four.token[j]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) units[unit] = sum;
  });
  __syncthreads();
  return scan_units(source.n_units());
}

// The first token, by id, with which the sum of masses exceeds `target`, which is less than the total. fill_units() or
// the like has left the sums before each unit.
template <typename Mass>
__device__ __forceinline__ int32_t search(const Source& source, uint64_t target, Mass mass) {
  DrawShared& shared = draw_shared();
  const uint64_t* units = draw_units();
  const int n = source.n_units(), lane = threadIdx.x % 32;
  for (int i = threadIdx.x; i < n; i += kDrawThreads)
    if (units[i] <= target && (i + 1 == n || units[i + 1] > target)) shared.found_unit = i;
  __syncthreads();
  if (threadIdx.x < 32) {
    const int unit = shared.found_unit;
    const Four four = source.load(unit, lane);
    uint64_t masses[4], sum = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += masses[j] = mass(four.x[j], four.token[j]);
    uint64_t end = sum;
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint64_t before = __shfl_up_sync(kAllLanes, end, offset);
      if (lane >= offset) end += before;
    }
    end += units[unit];
    uint64_t before = end - sum;
    if (before <= target && target < end) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (before <= target && target < before + masses[j]) shared.found_token = four.token[j];
        before += masses[j];
      }
    }
  }
  __syncthreads();
  return shared.found_token;
}

__device__ __forceinline__ void add_to_bin(uint32_t bin, uint64_t mass) {
  DrawShared& shared = draw_shared();
  const auto low = static_cast<uint32_t>(mass);
  auto high = static_cast<uint32_t>(mass >> 32);
  high += atomicAdd(&shared.bin_low[bin], low) > ~low;  // the carry
  if (high != 0) atomicAdd(&shared.bin_high[bin], high);
}

// By a whole warp; `in` says whether a lane has anything to add. Lanes that share the first one's bin are summed
// before: in a flat distribution that is most of them, and a shared address takes one addition at a time.
__device__ __forceinline__ void add_to_bins(bool in, uint32_t bin, uint64_t mass) {
  const unsigned lanes = __ballot_sync(kAllLanes, in);
  if (lanes == 0) return;
  const int leader = __ffs(lanes) - 1;
  const uint32_t leaders_bin = __shfl_sync(kAllLanes, bin, leader);
  const bool shares = in && bin == leaders_bin;
  if (__popc(__ballot_sync(kAllLanes, shares)) >= 8) {
    const uint64_t sum = warp_sum(shares ? mass : 0);
    if (static_cast<int>(threadIdx.x % 32) == leader) add_to_bin(bin, sum);
    in = in && !shares;
  }
  if (in) add_to_bin(bin, mass);
}

// The threshold of the elements with the greatest keys that together reach a mass.
struct Selected {
  bool all;       // even all of them do not reach it; the rest means nothing
  uint32_t key;   // elements above it are in
  uint64_t rest;  // mass wanted of those at the key itself; at least 1
  uint64_t tie;   // mass that they have
};

// each(add) calls add(in, key, mass) for every element, whole warps together; masses of at most 2^42.
template <typename Each>
__device__ __forceinline__ Selected select(uint64_t wanted, Each each) {
  DrawShared& shared = draw_shared();
  uint32_t prefix = 0, prefix_mask = 0;
#pragma unroll 1
  for (int digit = 0; digit < 3; ++digit) {  // 11, 11 and 10 bits
    const int shift = digit == 0 ? 21 : digit == 1 ? 10 : 0;
    for (int i = threadIdx.x; i < kBins; i += kDrawThreads) shared.bin_low[i] = shared.bin_high[i] = 0;
    __syncthreads();
    each([&](bool in, uint32_t key, uint64_t mass) {
      add_to_bins(in && (key & prefix_mask) == prefix, (key & ~prefix_mask) >> shift, mass);
    });
    __syncthreads();
    // Thread t has the bins 2 t and 2 t + 1 from the top.
    const int top = kBins - 1 - 2 * static_cast<int>(threadIdx.x);
    const auto bin_mass = [&](int bin) {
      return (static_cast<uint64_t>(shared.bin_high[bin]) << 32) + shared.bin_low[bin];
    };
    const uint64_t first = bin_mass(top), second = bin_mass(top - 1);
    uint64_t total = 0;
    uint64_t before = block_scan(first + second, total);
    if (total < wanted) return {true, 0, 0, 0};  // at the first digit, if ever
    const bool in_second = wanted > before + first;
    if (wanted > before && wanted <= before + first + second) {
      shared.digit = in_second ? top - 1 : top;
      shared.rest = wanted - before - (in_second ? first : 0);
      shared.tie = in_second ? second : first;
    }
    __syncthreads();
    prefix |= shared.digit << shift;
    prefix_mask |= digit == 0 ? 0xffe00000u : digit == 1 ? 0x001ffc00u : 0x000003ffu;
    wanted = shared.rest;
  }
  return {false, prefix, wanted, shared.tie};
}

// Elements above a key, and those at it up to a token.
struct Bound {
  uint32_t key = 0;
  int32_t token = INT32_MAX;

  __device__ bool admits(uint32_t other_key, int32_t other_token) const {
    return other_key > key || (other_key == key && other_token <= token);
  }
};

struct Keyed {
  uint32_t key;
  uint64_t mass;  // 0: not among those to choose from
};

// The bound of what is selected; of equal keys the lowest tokens. keyed(logit, token) -> Keyed.
template <typename Key>
__device__ __forceinline__ Bound bound_of(const Source& source, const Selected& selected, Key keyed) {
  if (selected.all) return {};
  if (selected.rest == selected.tie) return {selected.key, INT32_MAX};
  const auto tied = [&](float logit, int32_t token) -> uint64_t {
    const Keyed element = keyed(logit, token);
    return element.key == selected.key ? element.mass : 0;
  };
  fill_units(source, tied);
  return {selected.key, search(source, selected.rest - 1, tied)};
}

template <typename Key>
__device__ __forceinline__ Selected select_from(const Source& source, uint64_t wanted, Key keyed) {
  return select(wanted, [&](auto add) {
    for_each_unit(source, [&](int, const Four& four) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const Keyed element = keyed(four.x[j], four.token[j]);
        add(element.mass > 0, element.key, element.mass);
      }
    });
  });
}

// The bound of the k greatest logits above -infinity.
inline __device__ __noinline__ Bound greatest(Source source, int k) {
  const auto keyed = [](float logit, int32_t) -> Keyed {
    const uint32_t key = ordered_key(logit);
    return {key, key > kKeyOfNothing ? 1u : 0u};
  };
  return bound_of(source, select_from(source, k, keyed), keyed);
}

// The n-th greatest run maximum of a row: at least n logits are as great. With fewer runs the least key above
// -infinity's.
inline __device__ __noinline__ uint32_t nth_run_maximum(Source source, int n) {
  const int runs = n_runs(source.vocab_size);
  const Selected selected = select(n, [&](auto add) {
    for (int base = 0; base < runs; base += kDrawThreads) {
      const int run = base + static_cast<int>(threadIdx.x);
      const uint32_t key = run < runs ? source.maxima[run] : 0;
      add(key > kKeyOfNothing, key, 1);
    }
  });
  return selected.all ? kKeyOfNothing + 1 : selected.key;
}

// Copies a row's logits within `bound` to the list; returns how many, or -1 where they are too many.
inline __device__ __noinline__ int make_list(Source row, Bound bound) {
  DrawShared& shared = draw_shared();
  row.floor_key = max(row.floor_key, bound.key);
  const auto admitted = [&](float logit, int32_t token) -> uint64_t {
    const uint32_t key = ordered_key(logit);
    return key > kKeyOfNothing && bound.admits(key, token) ? 1 : 0;
  };
  const uint64_t total = fill_units(row, admitted);
  if (total > kListCapacity) return -1;
  for_each_unit(row, [&](int unit, const Four& four) {
    const int lane = threadIdx.x % 32;
    bool in[4];
    int n = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) n += in[j] = admitted(four.x[j], four.token[j]) != 0;
    int end = n;
    for (int offset = 1; offset < 32; offset *= 2) {
      const int before = __shfl_up_sync(kAllLanes, end, offset);
      if (lane >= offset) end += before;
    }
    int at = static_cast<int>(draw_units()[unit]) + end - n;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!in[j]) continue;
      shared.list_logit[at] = four.x[j];
      shared.list_token[at] = four.token[j];
      ++at;
    }
  });
  __syncthreads();
  return static_cast<int>(total);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
