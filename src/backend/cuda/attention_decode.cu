// Attention of few query rows over long KV, at the speed of memory, for devices without bulk copies and clusters
// (attention_cluster.cu), and with cuts that were asked for: one CTA reads each page of a KV head once for all query
// heads of its group.
//
// The warps of a CTA take pages of an item in turn, each through a ring of its own that runs on across items: no warp
// waits for another until an item ends. There the warps' results are added up, in their order, through shared memory.
#include "backend/cuda/attention_dispatch.h"
#include "backend/cuda/attention_merge.cuh"
#include "backend/cuda/attention_tile.cuh"
#include "backend/cuda/launch.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

// The planes that a warp is to see, in order, copied to shared memory ahead of use.
template <KvType kType, int kDim>
class WarpRing {
 public:
  static constexpr int kSlotBytes = plane_slot_bytes(kType, kDim);
  static constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim);

  __device__ WarpRing(const AttentionParams& p, std::byte* slots, int first_item, int end_item)
      : p_(p), slots_(slots), item_(first_item), end_item_(end_item) {
    find_item();
  }

  // Whether the next plane to copy was written before this step, or there is none.
  __device__ bool next_is_settled() const { return item_ >= end_item_ || (page_ + 1) * kPageTokens <= settled_tokens_; }

  // Starts the copy of the next plane, if there is one; always closes a group.
  __device__ __forceinline__ void issue() {
    if (item_ < end_item_) {
      const int lane = threadIdx.x % 32;
      const std::byte* from = p_.kv + page_id_ * p_.page_bytes + (2 * kv_head_ + is_value_) * kPlaneBytes + lane * 16;
      const uint32_t to = shared_address(slots_ + issue_slot_ * kSlotBytes) + lane * 16;
#pragma unroll
      for (int at = 0; at < kPlaneBytes; at += 32 * 16)
        if (at + 32 * 16 <= kPlaneBytes || at + lane * 16 < kPlaneBytes) copy_async_16(to + at, from + at);
      if (is_value_ == 1) advance();
      is_value_ ^= 1;
    }
    close_copy_group();
    issue_slot_ = issue_slot_ + 1 == p_.decode_stages ? 0 : issue_slot_ + 1;
  }

  // Fills the ring but for one slot.
  __device__ __forceinline__ void start(bool* waited) {
#pragma unroll 1
    for (int stage = 0; stage < p_.decode_stages - 1; ++stage) {
      if (!*waited && !next_is_settled()) {
        wait_for_predecessor();
        *waited = true;
      }
      issue();
    }
  }

  // The next plane, there for all lanes; the plane that was taken before it gives its slot to a new copy.
  __device__ __forceinline__ std::byte* take() {
    static_assert(kMinDecodeStages == 2 && kMaxDecodeStages == 4);
    if (p_.decode_stages == 2) {
      wait_copy_groups<0>();
    } else if (p_.decode_stages == 3) {
      wait_copy_groups<1>();
    } else {
      wait_copy_groups<2>();
    }
    __syncwarp();
    issue();
    std::byte* plane = slots_ + take_slot_ * kSlotBytes;
    take_slot_ = take_slot_ + 1 == p_.decode_stages ? 0 : take_slot_ + 1;
    return plane;
  }

 private:
  // From item_ on, the first that has a page for this warp.
  __device__ void find_item() {
    const int warp = threadIdx.x / 32;
    for (; item_ < end_item_; ++item_) {
      const AttentionItem& item = p_.work.items[item_];
      page_ = item.first_page + warp;
      end_page_ = item.end_page;
      if (page_ >= end_page_) continue;
      kv_head_ = item.kv_head;
      settled_tokens_ = item.kv_len - item.n_q;
      list_ = p_.pages + item.page_list;
      page_id_ = list_[page_];
      return;
    }
  }

  __device__ void advance() {
    page_ += blockDim.x / 32;
    if (page_ < end_page_) {
      page_id_ = list_[page_];  // wanted a page's time from now
    } else {
      ++item_;
      find_item();
    }
  }

  const AttentionParams& p_;
  std::byte* slots_;
  int issue_slot_ = 0, take_slot_ = 0;
  int item_, end_item_;
  int page_ = 0, end_page_ = 0, kv_head_ = 0, settled_tokens_ = 0;
  int is_value_ = 0;
  const int32_t* list_ = nullptr;
  int64_t page_id_ = 0;
};

// The warps' results of an item in shared memory: [warps][kRows][pitch] floats, maxima and sums [warps][kRows].
template <int kDim, int kRows>
struct WarpResults {
  static constexpr int kPitch = decode_row_pitch(kDim);
  float* rows;
  float* maxima;
  float* sums;

  __device__ WarpResults(float* base, int n_warps)
      : rows(base), maxima(base + n_warps * kRows * kPitch), sums(maxima + n_warps * kRows) {}

  template <KvType kType>
  __device__ __forceinline__ void put(const WarpRows<kType, kDim, kRows / 4>& from, int warp, int lane) const {
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      const int row = warp * kRows + lane / 4 + 8 * i;
      from.for_pairs(i, lane, [&](int d, float first, float second) {
        *reinterpret_cast<float2*>(rows + row * kPitch + d) = make_float2(first, second);
      });
      if (lane % 4 == 0) {
        maxima[row] = from.m[i];
        sums[row] = from.l[i];
      }
    }
  }

  // Four dimensions of a row, of all warps together.
  __device__ __forceinline__ Merged sum(int n_warps, int row, int d, float scale_log2) const {
    Merged merged;
    for (int warp = 0; warp < n_warps; ++warp) {
      const int at = warp * kRows + row;
      merged.add(maxima[at], sums[at], *reinterpret_cast<const float4*>(rows + at * kPitch + d), scale_log2);
    }
    return merged;
  }
};

// Adds up the warps' results and writes them to the output or, of a part, to its slot.
template <int kDim, int kRows>
__device__ __forceinline__ void finish_item(const AttentionParams& p, const AttentionItem& item,
                                            const WarpResults<kDim, kRows>& results, int* shared_flag) {
  const int n_rows = item.n_q * p.group;
  const int n_warps = min(static_cast<int>(blockDim.x / 32), item.end_page - item.first_page);
  const RowOutput output(p, item, kDim);
  const PartialSlot<kDecodeTileRows, kDim> slot(p.partials, item.first_partial + item.part);
  for (int i = threadIdx.x; i < n_rows * (kDim / 4); i += blockDim.x) {
    const int row = i / (kDim / 4), d = i % (kDim / 4) * 4;
    const Merged merged = results.sum(n_warps, row, d, p.scale_log2);
    if (item.n_parts == 1) {
      const float inverse = 1 / merged.l;
      output.store(row, d, merged.o.x * inverse, merged.o.y * inverse);
      output.store(row, d + 2, merged.o.z * inverse, merged.o.w * inverse);
    } else {
      *reinterpret_cast<float4*>(slot.row(row) + d) = merged.o;
      if (d == 0) {
        *slot.maximum(row) = merged.m;
        *slot.sum(row) = merged.l;
      }
    }
  }
  if (item.n_parts > 1 && is_last_part(item, p.counters, shared_flag))
    merge_parts<kDecodeTileRows, kDim>(p, item, n_rows);
}

template <KvType kType, int kDim, int kRows>
__device__ __forceinline__ void start_item(const AttentionParams& p, const AttentionItem& item, int lane,
                                           WarpRows<kType, kDim, kRows / 4>& rows) {
  rows.clear();
  const int n_rows = item.n_q * p.group;
  const __half* query[kRows / 8];
#pragma unroll
  for (int i = 0; i < kRows / 8; ++i) {
    const int row = lane / 4 + 8 * i;
    const int token = row / p.group, head = item.kv_head * p.group + row % p.group;
    query[i] = row < n_rows ? p.q + (int64_t{item.q_start + token} * p.n_heads + head) * kDim : nullptr;
    rows.limit[i] = min(item.kv_len - item.n_q + token + 1, item.kv_len);
  }
  rows.set_queries(query, lane);
}

// The warp's pages of an item.
template <KvType kType, int kDim, int kRows>
__device__ __forceinline__ void attend_pages(const AttentionParams& p, const AttentionItem& item, int warp, int lane,
                                             WarpRing<kType, kDim>& ring, WarpRows<kType, kDim, kRows / 4>& rows) {
  const PlaneReader<kType, kDim> reader(lane);
  for (int page = item.first_page + warp; page < item.end_page; page += blockDim.x / 32) {
    const int position = page * kPageTokens;
    float s[1][4][kRows / 4];
    std::byte* keys = ring.take();
    rows.scores(reader, shared_address(keys), s[0]);
    if (position + kPageTokens > item.kv_len - item.n_q + 1) rows.mask(s[0], position, lane);
    rows.softmax(s, p.scale_log2);
    std::byte* values = ring.take();
    if (position + kPageTokens > item.kv_len) {
      clear_tail<kType, kDim>(values, item.kv_len - position, lane, 32);
      __syncwarp();
    }
    rows.accumulate(reader, shared_address(values), s[0]);
  }
}

template <KvType kType, int kDim, int kRows>
__global__ void __launch_bounds__(32 * kMaxDecodeWarps) attention_decode_kernel(const AttentionParams p) {
  extern __shared__ __align__(128) std::byte shared[];
  using Ring = WarpRing<kType, kDim>;
  release_successor();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
  const int ring_bytes = p.decode_stages * Ring::kSlotBytes;
  std::byte* after_rings = shared + n_warps * ring_bytes;
  const WarpResults<kDim, kRows> results(reinterpret_cast<float*>(after_rings), n_warps);
  int* shared_flag = reinterpret_cast<int*>(results.sums + n_warps * kRows);

  // What a step's plan says and the pages of earlier steps are there before the step's first kernel starts (ops.h).
  const int first_item = p.work.cta_start[blockIdx.x], end_item = p.work.cta_start[blockIdx.x + 1];
  if (first_item == end_item) return wait_for_predecessor();
  Ring ring(p, shared + warp * ring_bytes, first_item, end_item);
  bool waited = false;
  ring.start(&waited);
  if (!waited) wait_for_predecessor();

  WarpRows<kType, kDim, kRows / 4> rows;
  for (int i = first_item; i < end_item; ++i) {
    const AttentionItem item = p.work.items[i];
    if (i > first_item) __syncthreads();  // the item before has been added up
    start_item<kType, kDim, kRows>(p, item, lane, rows);
    attend_pages<kType, kDim, kRows>(p, item, warp, lane, ring, rows);
    rows.finish_sums();
    if (item.first_page + warp < item.end_page) results.put(rows, warp, lane);
    __syncthreads();
    finish_item(p, item, results, shared_flag);
  }
}

template <KvType kType, int kDim, int kRows>
void launch_kernel(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                   cudaStream_t stream) {
  const int shared_bytes = decode_shared_bytes(kType, kDim, kRows, grid.decode_warps, grid.decode_stages);
  SPATE_CUDA(launch({.grid = static_cast<unsigned>(grid.decode_ctas),
                     .block = static_cast<unsigned>(32 * grid.decode_warps),
                     .shared_bytes = static_cast<size_t>(shared_bytes),
                     .stream = stream,
                     .dependent = args.dependent_launch},
                    attention_decode_kernel<kType, kDim, kRows>, params),
             "decode attention of {} CTAs, {} heads over {} of {}, {} bytes of shared memory", grid.decode_ctas,
             args.n_heads, args.n_kv_heads, kDim, shared_bytes);
}

}  // namespace

void launch_decode(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                   cudaStream_t stream) {
  SPATE_CHECK(grid.decode_warps >= 1 && grid.decode_warps <= kMaxDecodeWarps &&
                  grid.decode_stages >= kMinDecodeStages && grid.decode_stages <= kMaxDecodeStages,
              "{} warps, {} stages", grid.decode_warps, grid.decode_stages);
  with_attention_kernel(args.kv.type, args.head_dim, [&]<KvType kType, int kDim>() {
    if (grid.decode_rows <= 8) return launch_kernel<kType, kDim, 8>(args, params, grid, stream);
    launch_kernel<kType, kDim, 16>(args, params, grid, stream);
  });
}

}  // namespace spate::cuda
