// Attention of many query rows: tiles of 64 rows (tokens and their group's heads packed), keys and values through
// shared memory in two stages, and nothing in global memory but the results (FlashAttention-2, Dao 2023).
#include "backend/cuda/attention_dispatch.h"
#include "backend/cuda/attention_merge.cuh"
#include "backend/cuda/attention_tile.cuh"
#include "backend/cuda/launch.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kWarps = kPrefillTileRows / 16;
constexpr int kThreads = 32 * kWarps;

// Two stages of pages in shared memory; a page is a slot of keys and one of values.
template <KvType kType, int kDim>
class PageStages {
 public:
  static constexpr int kStagePages = prefill_stage_pages(kDim);
  static constexpr int kSlotBytes = plane_slot_bytes(kType, kDim);
  static constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim);

  __device__ PageStages(const AttentionParams& p, const AttentionItem& item, std::byte* slots)
      : slots_(slots),
        head_(p.kv + 2 * item.kv_head * kPlaneBytes),
        page_bytes_(p.page_bytes),
        list_(p.pages + item.page_list),
        end_page_(item.end_page) {}

  // Starts the copy of pages [first_page, first_page + kStagePages), as far as the item goes; all threads of the CTA.
  __device__ __forceinline__ void issue(int stage, int first_page) const {
#pragma unroll
    for (int page = 0; page < kStagePages; ++page) {
      if (first_page + page >= end_page_) break;
      const std::byte* from = head_ + list_[first_page + page] * page_bytes_;
      const uint32_t to = shared_address(keys(stage, page));
#pragma unroll
      for (int at = 0; at < 2 * kPlaneBytes; at += kThreads * 16) {
        const int offset = at + threadIdx.x * 16;
        const int gap = offset >= kPlaneBytes ? kSlotBytes - kPlaneBytes : 0;
        if (at + kThreads * 16 <= 2 * kPlaneBytes || offset < 2 * kPlaneBytes)
          copy_async_16(to + offset + gap, from + offset);
      }
    }
  }

  __device__ __forceinline__ std::byte* keys(int stage, int page) const {
    return slots_ + (stage * kStagePages + page) * 2 * kSlotBytes;
  }
  __device__ __forceinline__ std::byte* values(int stage, int page) const {
    return keys(stage, page) + kSlotBytes;
  }

 private:
  std::byte* slots_;
  const std::byte* head_;
  int64_t page_bytes_;
  const int32_t* list_;
  int end_page_;
};

// What a warp's 16 rows are to see: positions below limit, the same for lanes of a row.
struct WarpSpan {
  int first_row;                    // of the sequence and KV head
  int lowest_limit, highest_limit;  // of the 16 rows
};

template <KvType kType, int kDim>
__device__ __forceinline__ WarpSpan start_rows(const AttentionParams& p, const AttentionItem& item, int end_position,
                                               int warp, int lane, WarpRows<kType, kDim, 4>& rows) {
  rows.clear();
  const int n_rows = item.n_q * p.group, first_row = item.first_row + 16 * warp;
  const int settled = item.kv_len - item.n_q;
  const auto limit_of = [&](int row) { return min(settled + row / p.group + 1, end_position); };
  const __half* query[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + lane / 4 + 8 * i;
    const int token = row / p.group, head = item.kv_head * p.group + row % p.group;
    query[i] = row < n_rows ? p.q + (int64_t{item.q_start + token} * p.n_heads + head) * kDim : nullptr;
    rows.limit[i] = limit_of(row);
  }
  rows.set_queries(query, lane);
  return {.first_row = first_row,
          .lowest_limit = limit_of(first_row),
          .highest_limit = first_row < n_rows ? limit_of(first_row + 15) : 0};
}

template <KvType kType, int kDim>
__device__ __forceinline__ void write_rows(const AttentionParams& p, const AttentionItem& item, int first_row, int lane,
                                           const WarpRows<kType, kDim, 4>& rows) {
  const int n_rows = item.n_q * p.group;
  const RowOutput output(p, item, kDim);
  const PartialSlot<kPrefillTileRows, kDim> slot(p.partials, item.first_partial + item.part);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + lane / 4 + 8 * i;
    if (row >= n_rows) continue;
    if (item.n_parts == 1) {
      const float inverse = 1 / rows.l[i];
      rows.for_pairs(i, lane, [&](int d, float a, float b) { output.store(row, d, a * inverse, b * inverse); });
    } else {
      const int in_tile = row - item.first_row;
      rows.for_pairs(i, lane, [&](int d, float a, float b) {
        *reinterpret_cast<float2*>(slot.row(in_tile) + d) = make_float2(a, b);
      });
      if (lane % 4 == 0) {
        *slot.maximum(in_tile) = rows.m[i];
        *slot.sum(in_tile) = rows.l[i];
      }
    }
  }
}

template <KvType kType, int kDim>
__global__ void __launch_bounds__(kThreads, kDim > 128 ? 1 : 3) attention_prefill_kernel(const AttentionParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  using Stages = PageStages<kType, kDim>;
  constexpr int kStageTokens = Stages::kStagePages * kPageTokens;
  release_successor();
  wait_for_predecessor();
  if (static_cast<int>(blockIdx.x) >= *p.work.n_prefill) return;
  const AttentionItem item = p.work.items[p.work.cta_start[p.decode_ctas] + blockIdx.x];
  const Stages stages(p, item, shared);
  stages.issue(0, item.first_page);
  close_copy_group();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int end_position = min(item.kv_len, item.end_page * kPageTokens);
  const PlaneReader<kType, kDim> reader(lane);
  WarpRows<kType, kDim, 4> rows;
  const WarpSpan span = start_rows(p, item, end_position, warp, lane, rows);
  int stage = 0;
  for (int page = item.first_page; page < item.end_page; page += Stages::kStagePages, stage ^= 1) {
    wait_copy_groups<0>();
    __syncthreads();  // this stage is there for all, and nobody reads the other one any more
    if (page + Stages::kStagePages < item.end_page) stages.issue(stage ^ 1, page + Stages::kStagePages);
    close_copy_group();
    const int position = page * kPageTokens;
    if (position + kStageTokens > end_position) {
      for (int i = 0; i < Stages::kStagePages; ++i)
        clear_tail<kType, kDim>(stages.values(stage, i),
                                max(0, min(kPageTokens, end_position - position - i * kPageTokens)), threadIdx.x,
                                kThreads);
      __syncthreads();
    }
    if (position >= span.highest_limit) continue;
    float s[Stages::kStagePages][4][4];
#pragma unroll
    for (int i = 0; i < Stages::kStagePages; ++i) {
      rows.scores(reader, shared_address(stages.keys(stage, i)), s[i]);
      if (position + (i + 1) * kPageTokens > span.lowest_limit) rows.mask(s[i], position + i * kPageTokens, lane);
    }
    rows.softmax(s, p.scale_log2);
#pragma unroll
    for (int i = 0; i < Stages::kStagePages; ++i)
      rows.accumulate(reader, shared_address(stages.values(stage, i)), s[i]);
  }
  rows.finish_sums();
  write_rows(p, item, span.first_row, lane, rows);
  if (item.n_parts == 1) return;
  int* shared_flag = reinterpret_cast<int*>(shared + prefill_shared_bytes(kType, kDim) - kSharedReserve);
  if (is_last_part(item, p.counters, shared_flag))
    merge_parts<kPrefillTileRows, kDim>(p, item, min(kPrefillTileRows, item.n_q * p.group - item.first_row));
}

template <KvType kType, int kDim>
void launch_kernel(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                   cudaStream_t stream) {
  constexpr int kSharedBytes = prefill_shared_bytes(kType, kDim);
  SPATE_CUDA(launch({.grid = static_cast<unsigned>(grid.prefill_ctas),
                     .block = kThreads,
                     .shared_bytes = kSharedBytes,
                     .stream = stream,
                     .dependent = args.dependent_launch},
                    attention_prefill_kernel<kType, kDim>, params),
             "prefill attention of {} CTAs, {} heads over {} of {}, {} bytes of shared memory", grid.prefill_ctas,
             args.n_heads, args.n_kv_heads, kDim, kSharedBytes);
}

}  // namespace

void launch_prefill(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                    cudaStream_t stream) {
  SPATE_CHECK(grid.prefill_rows == kPrefillTileRows, "tiles of {} rows", grid.prefill_rows);
  with_attention_kernel(args.kv.type, args.head_dim,
                        [&]<KvType kType, int kDim>() { launch_kernel<kType, kDim>(args, params, grid, stream); });
}

}  // namespace spate::cuda
