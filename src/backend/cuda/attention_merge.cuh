// Where results of attention go: the output, or a part's slot in scratch memory; and how the part that ends last adds
// up all of them, in their order.
#pragma once

#include "backend/cuda/attention_params.h"
#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/warp_mma.cuh"

namespace spate::cuda {

// Writes results of an item's rows to the output.
class RowOutput {
 public:
  __device__ RowOutput(const AttentionParams& p, const AttentionItem& item, int head_dim)
      : out_(p.out),
        stride_(p.out_stride),
        group_(p.group),
        q_start_(item.q_start),
        first_column_(item.kv_head * p.group * head_dim),
        head_dim_(head_dim) {}

  // Two neighbouring dimensions, the first even, of row `row` of the sequence and KV head.
  __device__ __forceinline__ void store(int row, int dimension, float first, float second) const {
    const int token = q_start_ + row / group_;
    const int column = first_column_ + row % group_ * head_dim_ + dimension;
    *reinterpret_cast<uint32_t*>(out_ + token * stride_ + k_position(column)) = pack_half2(first, second);
  }

 private:
  __half* out_;
  int64_t stride_;
  int group_, q_start_, first_column_, head_dim_;
};

// One part's result: rows that are not divided by their sums yet, each relative to 2^(maximum * scale_log2).
template <int kTileRows, int kDim>
struct PartialSlot {
  float* base;

  __device__ PartialSlot(float* partials, int slot) : base(partials + slot * partial_elems(kTileRows, kDim)) {}
  __device__ __forceinline__ float* row(int r) const { return base + r * kDim; }
  __device__ __forceinline__ float* maximum(int r) const { return base + kTileRows * kDim + r; }
  __device__ __forceinline__ float* sum(int r) const { return base + kTileRows * (kDim + 1) + r; }
};

// Running weighted sum of results that are relative to different maxima.
struct Merged {
  float m = -INFINITY, l = 0;
  float4 o = {0, 0, 0, 0};

  __device__ __forceinline__ void add(float part_m, float part_l, float4 part_o, float scale_log2) {
    const float top = fmaxf(m, part_m);
    const float base = top == -INFINITY ? 0.0f : top * scale_log2;
    const float mine = exp2_approx(m * scale_log2 - base), other = exp2_approx(part_m * scale_log2 - base);
    m = top;
    l = l * mine + part_l * other;
    o.x = o.x * mine + part_o.x * other;
    o.y = o.y * mine + part_o.y * other;
    o.z = o.z * mine + part_o.z * other;
    o.w = o.w * mine + part_o.w * other;
  }
};

// To be called by all threads of a CTA once they have written a part's slot: whether this was the last part to end. The
// slots of all parts are visible to the CTA that gets true.
__device__ __forceinline__ bool is_last_part(const AttentionItem& item, uint32_t* counters, int* shared_flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t ended = atomicAdd(&counters[item.counter], 1u);
    const bool last = ended + 1 == static_cast<uint32_t>(item.n_parts);
    if (last) counters[item.counter] = 0;  // for the launch after this one
    *shared_flag = last;
  }
  __syncthreads();
  const bool last = *shared_flag != 0;
  __threadfence();
  return last;
}

// Adds up the parts of an item's rows [first_row, first_row + n_rows) and writes them out; all threads of the CTA.
template <int kTileRows, int kDim>
__device__ __forceinline__ void merge_parts(const AttentionParams& p, const AttentionItem& item, int n_rows) {
  constexpr int kAtOnce = 4;  // loads in flight: a part's result comes from L2
  const RowOutput output(p, item, kDim);
  for (int i = threadIdx.x; i < n_rows * (kDim / 4); i += blockDim.x) {
    const int row = i / (kDim / 4), d = i % (kDim / 4) * 4;
    Merged merged;
    for (int first = 0; first < item.n_parts; first += kAtOnce) {
      float m[kAtOnce], l[kAtOnce];
      float4 o[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        // Beyond the last part, that one again, with no weight.
        const int part = min(first + k, item.n_parts - 1);
        const PartialSlot<kTileRows, kDim> slot(p.partials, item.first_partial + part);
        m[k] = __ldcg(slot.maximum(row));
        l[k] = __ldcg(slot.sum(row));
        o[k] = __ldcg(reinterpret_cast<const float4*>(slot.row(row) + d));
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (first + k < item.n_parts) merged.add(m[k], l[k], o[k], p.scale_log2);
    }
    const float inverse = 1 / merged.l;
    output.store(item.first_row + row, d, merged.o.x * inverse, merged.o.y * inverse);
    output.store(item.first_row + row, d + 2, merged.o.z * inverse, merged.o.w * inverse);
  }
}

}  // namespace spate::cuda
