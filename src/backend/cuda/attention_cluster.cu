// Decode attention by clusters of CTAs (compute capability 9.0): what attention_decode.cu computes elsewhere, planned
// by attention_cluster_plan.h.
//
// Every warp reads pages of its own, keys and values each by a bulk copy into slots of its own, and waits for nobody
// until it has read its last. Pieces of one item meet once: each warp leaves its result where its pages were, and after
// one barrier all warps of the cluster merge, each a slice of the rows, straight from one another's shared memory.
//
// The first pages are on their way before the step's queries are there. The page with the tokens of this step is asked
// for as early as the others, while these may still be being written: their rows are read again afterwards.
#include <bit>

#include "backend/cuda/attention_dispatch.h"
#include "backend/cuda/attention_merge.cuh"
#include "backend/cuda/attention_tile.cuh"
#include "backend/cuda/cluster.cuh"
#include "backend/cuda/launch.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

#if SPATE_HAS_BULK_COPY

// What a warp looks up while it works: from shared memory, for it would wait for memory otherwise.
struct alignas(16) WarpNotes {
  AttentionItem item;                     // that it works on
  int32_t early_pages[kMaxClusterSlots];  // whose copies were started first, by slot

  // Turns to an item; all lanes of the warp.
  __device__ __forceinline__ void take(const AttentionItem& from, int lane) {
    __syncwarp();  // all have read the one before
    if (lane < static_cast<int>(sizeof(AttentionItem) / 4))
      reinterpret_cast<int32_t*>(&item)[lane] = reinterpret_cast<const int32_t*>(&from)[lane];
    __syncwarp();
  }
};
static_assert(sizeof(WarpNotes) == kClusterNotesBytes);

// Pages on their way to a warp, in the order in which it takes them: copies started ahead into its slots.
template <KvType kType, int kDim>
class PageQueue {
 public:
  static constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim);
  static constexpr int kPageBytes = cluster_page_bytes(kType, kDim);

  // slots, barriers: shared addresses of the warp's own, as many as `p` says.
  __device__ PageQueue(const AttentionParams& p, const WarpSpan& span, uint32_t slots, uint32_t barriers,
                       WarpNotes* notes)
      : p_(p),
        slots_(slots),
        barriers_(barriers),
        left_items_(span.end_item - span.first_item - 1),
        left_pages_(span.end_listed - span.first_listed),
        item_(p.work.items + span.first_item),
        kv_head_(span.kv_head),
        page_id_(span.page_ids[0]),
        next_page_id_(span.page_ids[1]),
        next_(span.first_listed + 2) {
    const int lane = threadIdx.x % 32;
    if (lane >> p.decode_slots_log2 <= 1) barrier_init(barriers_ + lane * 8, 1);
    publish_barriers();
    __syncwarp();
    for (int slot = 0; slot < 1 << p.decode_slots_log2; ++slot) {
      if (lane == 0) notes->early_pages[slot] = page_id_;
      issue(slot, 0);
      issue(slot, 1);
      advance();
    }
  }

  // Waits for the keys (which = 0) or values (1) of the page in turn and returns their shared address: values follow
  // keys.
  __device__ __forceinline__ uint32_t take(int which) const {
    barrier_wait(barrier(slot(), which), n_taken_ >> p_.decode_slots_log2 & 1);
    return slots_ + slot() * kPageBytes + which * kPlaneBytes;
  }
  // Whether the copy of the page in turn was started by the constructor.
  __device__ __forceinline__ bool is_early() const { return n_taken_ >> p_.decode_slots_log2 == 0; }
  // Of the page in turn.
  __device__ __forceinline__ uint32_t slot() const { return n_taken_ & ((1u << p_.decode_slots_log2) - 1); }

  // All lanes are done with the keys, then with the values of the page in turn. written: they wrote there.
  __device__ __forceinline__ void give_back_keys(bool written) {
    if (written) fence_before_bulk_copies();
    __syncwarp();
    issue(slot(), 0);
  }
  __device__ __forceinline__ void give_back_values(bool written) {
    if (written) fence_before_bulk_copies();
    __syncwarp();
    issue(slot(), 1);
    advance();
    ++n_taken_;
  }

 private:
  __device__ __forceinline__ uint32_t barrier(uint32_t slot, int which) const {
    return barriers_ + (2 * slot + which) * 8;
  }

  // Starts the copy of the next page's keys or values, if there is one.
  __device__ __forceinline__ void issue(uint32_t slot, int which) const {
    if (left_pages_ > 0 && threadIdx.x % 32 == 0)
      copy_bulk(slots_ + slot * kPageBytes + which * kPlaneBytes,
                p_.kv + page_id_ * p_.page_bytes + (2 * kv_head_ + which) * kPlaneBytes, kPlaneBytes,
                barrier(slot, which));
  }

  // To the page after it.
  __device__ __forceinline__ void advance() {
    if (left_pages_ == 0) return;
    page_id_ = next_page_id_;
    if (--left_pages_ > 1) {
      next_page_id_ = p_.pages[next_++];  // wanted two pages' time from now
    } else if (left_pages_ == 0 && left_items_ > 0) {
      --left_items_;
      ++item_;
      kv_head_ = item_->kv_head;
      left_pages_ = item_->end_page - item_->first_page;
      next_ = item_->page_list + item_->first_page;
      page_id_ = p_.pages[next_++];
      if (left_pages_ > 1) next_page_id_ = p_.pages[next_];
      ++next_;
    }
  }

  const AttentionParams& p_;
  const uint32_t slots_, barriers_;
  uint32_t n_taken_ = 0;
  // Of the page to be copied next, and what follows.
  int left_items_, left_pages_;
  const AttentionItem* item_;
  int kv_head_, page_id_, next_page_id_;
  int next_;  // where in the page lists the page after next_page_id_ stands
};

// What warps that have pieces leave in shared memory, and the cluster reads: rows, then their maxima, then their sums.
template <int kDim, int kRows>
struct PieceResult {
  static constexpr int kPitch = decode_row_pitch(kDim);
  __device__ static __forceinline__ int row(int r, int d) { return (r * kPitch + d) * 4; }
  __device__ static __forceinline__ int maximum(int r) { return (kRows * kPitch + r) * 4; }
  __device__ static __forceinline__ int sum(int r) { return (kRows * (kPitch + 1) + r) * 4; }

  template <KvType kType>
  __device__ static __forceinline__ void put(const WarpRows<kType, kDim, kRows / 4>& from, int lane, std::byte* to) {
#pragma unroll
    for (int i = 0; i < kRows / 8; ++i) {
      const int r = lane / 4 + 8 * i;
      from.for_pairs(i, lane, [&](int d, float first, float second) {
        *reinterpret_cast<float2*>(to + row(r, d)) = make_float2(first, second);
      });
      if (lane % 4 == 0) {
        *reinterpret_cast<float*>(to + maximum(r)) = from.m[i];
        *reinterpret_cast<float*>(to + sum(r)) = from.l[i];
      }
    }
  }
};

// An item whose pieces the warps of a cluster from `warp` on have; one entry a warp of the cluster, in each CTA.
struct alignas(16) ItemMerge {
  AttentionItem item;
  int n_pieces;  // 0: no item's first piece is that warp's
  int last;      // of parts in different clusters, this CTA was the last to end
};
static_assert(sizeof(ItemMerge) == kClusterMergeBytes);

// Loads queries of an item's rows, and says what they see.
template <KvType kType, int kDim, int kRows>
__device__ __forceinline__ void start_rows(const AttentionParams& p, const AttentionItem& item, int lane,
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

// Reads the rows of tokens [from, to) of a page, whose copy lies at `keys` in shared memory, once more: the copy may
// have been started before they were written.
template <KvType kType, int kDim>
__device__ __forceinline__ void reread_rows(const std::byte* page, std::byte* keys, int from, int to, int lane) {
  constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim), kChunks = kv_row_bytes(kType, kDim) / kKvChunkBytes;
  const int n_chunks = (to - from) * kChunks;
#pragma unroll 1
  for (int i = lane; i < 2 * n_chunks; i += 32) {
    const int at = (i / n_chunks) * kPlaneBytes + (from * kChunks + i % n_chunks) * kKvChunkBytes;
    *reinterpret_cast<uint4*>(keys + at) = __ldcg(reinterpret_cast<const uint4*>(page + at));
  }
  if constexpr (kType == KvType::kQ8_0) {
    constexpr int kBlocks = (kDim + kKvBlock - 1) / kKvBlock;
    const int n_scales = (to - from) * kBlocks;
#pragma unroll 1
    for (int i = lane; i < 2 * n_scales; i += 32) {
      const int token = from + i % n_scales / kBlocks, block = i % kBlocks;
      const int at = (i / n_scales) * kPlaneBytes + kv_scales_offset(kDim) + 2 * kv_scale_index(token, block);
      *reinterpret_cast<uint16_t*>(keys + at) = __ldcg(reinterpret_cast<const uint16_t*>(page + at));
    }
  }
}

// The warp's pages [first_page, end_page) of an item.
template <KvType kType, int kDim, int kRows>
__device__ __forceinline__ void attend_pages(const AttentionParams& p, const WarpNotes& notes, int first_page,
                                             int end_page, int lane, PageQueue<kType, kDim>& queue,
                                             WarpRows<kType, kDim, kRows / 4>& rows) {
  constexpr int kPlaneBytes = kv_plane_bytes(kType, kDim);
  const PlaneReader<kType, kDim> reader(lane);
  const AttentionItem& item = notes.item;
  const int settled = item.kv_len - item.n_q;
  for (int position = first_page * kPageTokens; position < end_page * kPageTokens; position += kPageTokens) {
    const uint32_t keys = queue.take(0);
    const bool has_new = position + kPageTokens > settled;
    if (has_new) {
      queue.take(1);
      const int end = min(kPageTokens, item.kv_len - position);
      auto* copy = static_cast<std::byte*>(__cvta_shared_to_generic(keys));
      if (queue.is_early()) {
        const int64_t page = notes.early_pages[queue.slot()];
        reread_rows<kType, kDim>(p.kv + page * p.page_bytes + 2 * item.kv_head * kPlaneBytes, copy,
                                 max(0, settled - position), end, lane);
      }
      clear_tail<kType, kDim>(copy + kPlaneBytes, end, lane, 32);
      __syncwarp();
    }
    float s[1][4][kRows / 4];
    rows.template scores<WarpRows<kType, kDim, kRows / 4>::kQueriesStay ? kDim / 16 : 4>(reader, keys, s[0]);
    queue.give_back_keys(has_new);
    if (has_new) rows.mask(s[0], position, lane);
    rows.softmax(s, p.scale_log2);
    rows.accumulate(reader, queue.take(1), s[0]);
    queue.give_back_values(has_new);
  }
  rows.finish_sums();
}

// Of a warp that has an item to itself: to the output.
template <KvType kType, int kDim, int kRows>
__device__ __forceinline__ void write_rows(const AttentionParams& p, const AttentionItem& item, int lane,
                                           const WarpRows<kType, kDim, kRows / 4>& rows) {
  const RowOutput output(p, item, kDim);
#pragma unroll
  for (int i = 0; i < kRows / 8; ++i) {
    const int row = lane / 4 + 8 * i;
    if (row >= item.n_q * p.group) continue;
    const float inverse = 1 / rows.l[i];
    rows.for_pairs(i, lane, [&](int d, float a, float b) { output.store(row, d, a * inverse, b * inverse); });
  }
}

__device__ __forceinline__ void add_other_lanes(Merged& mine, int distance, float scale_log2) {
  const auto other = [&](float x) { return __shfl_down_sync(0xffffffffu, x, distance); };
  mine.add(other(mine.m), other(mine.l), {other(mine.o.x), other(mine.o.y), other(mine.o.z), other(mine.o.w)},
           scale_log2);
}

// Where a warp of the cluster left its result.
struct ResultAddress {
  uint32_t results;  // of warp 0 of this CTA, a shared address
  int warp_bytes, ctas_log2;

  __device__ __forceinline__ uint32_t operator()(int cluster_warp) const {
    return cluster_address(results + (cluster_warp >> ctas_log2) * warp_bytes, cluster_warp & ((1 << ctas_log2) - 1));
  }
};

// Merges the pieces of an item whose first warp is `first_warp`: chunks warp, warp + n_warps, ... of its rows' quads of
// dimensions, 32 / lanes of them each. `lanes` neighbouring lanes share the pieces of a quad, in one order.
template <int kDim, int kRows>
__device__ __forceinline__ void merge_pieces(const AttentionParams& p, const ItemMerge& merge, int first_warp,
                                             int lanes, int chunk, int n_warps, int lane, const ResultAddress& at) {
  using Result = PieceResult<kDim, kRows>;
  constexpr int kAtOnce = 4;  // loads in flight: they come from other SMs
  const AttentionItem& item = merge.item;
  const int n_quads = item.n_q * p.group * (kDim / 4);
  const RowOutput output(p, item, kDim);
  const PartialSlot<kDecodeTileRows, kDim> slot(p.partials, item.first_partial + item.part);
  for (; chunk * (32 / lanes) < n_quads; chunk += n_warps) {
    const int quad = chunk * (32 / lanes) + lane / lanes;
    const int row = min(quad, n_quads - 1) / (kDim / 4), d = quad % (kDim / 4) * 4;
    Merged merged;
    for (int first = lane % lanes; first < merge.n_pieces; first += kAtOnce * lanes) {
      float m[kAtOnce], l[kAtOnce];
      float4 o[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        // Beyond the last piece, that one again, with no weight.
        const uint32_t from = at(first_warp + min(first + k * lanes, merge.n_pieces - 1));
        m[k] = load_cluster(from + Result::maximum(row));
        l[k] = load_cluster(from + Result::sum(row));
        o[k] = load_cluster_4(from + Result::row(row, d));
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
        if (first + k * lanes < merge.n_pieces) merged.add(m[k], l[k], o[k], p.scale_log2);
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2) add_other_lanes(merged, distance, p.scale_log2);
    if (lane % lanes != 0 || quad >= n_quads) continue;
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
}

// How many lanes share the pieces of a quad: so many that each has about four.
__device__ __forceinline__ int lanes_for(int n_pieces) {
  return n_pieces <= 4 ? 1 : n_pieces <= 8 ? 2 : n_pieces <= 16 ? 4 : 8;
}

// Merges all items of the cluster whose pieces warps have; its chunks go round the cluster's warps, of which this is
// `warp`. Returns whether an item has parts in other clusters too.
template <int kDim, int kRows>
__device__ __forceinline__ bool merge_items(const AttentionParams& p, const ItemMerge* merges, int n_warps, int warp,
                                            int lane, const ResultAddress& at) {
  bool split = false;
  int next = warp;  // the first chunk of the item in turn that is this warp's
  for (int base = 0; base < n_warps; base += 32) {
    const bool begins = base + lane < n_warps && merges[base + lane].n_pieces > 0;
    for (uint32_t left = __ballot_sync(0xffffffffu, begins); left != 0; left &= left - 1) {
      const int first_warp = base + __ffs(static_cast<int>(left)) - 1;
      const ItemMerge& merge = merges[first_warp];
      const int lanes = lanes_for(merge.n_pieces);
      const int n_chunks = (merge.item.n_q * p.group * (kDim / 4) * lanes + 31) / 32;
      merge_pieces<kDim, kRows>(p, merge, first_warp, lanes, next, n_warps, lane, at);
      next -= n_chunks % n_warps;
      if (next < 0) next += n_warps;
      split |= merge.item.n_parts > 1;
    }
  }
  return split;
}

// Of items with parts in several clusters: the CTA that ends last, of all that merged pieces of one, merges its parts.
template <int kDim>
__device__ __forceinline__ void finish_split_items(const AttentionParams& p, ItemMerge* merges, int n_warps,
                                                   int ctas_log2) {
  __threadfence();
  __syncthreads();
  for (int i = threadIdx.x; i < n_warps; i += blockDim.x) {
    ItemMerge& merge = merges[i];
    merge.last = 0;
    if (merge.n_pieces == 0 || merge.item.n_parts == 1) continue;
    const uint32_t n_ended = atomicAdd(&p.counters[merge.item.counter], 1u) + 1;
    merge.last = n_ended == static_cast<uint32_t>(merge.item.n_parts) << ctas_log2;
    if (merge.last != 0) p.counters[merge.item.counter] = 0;  // for the launch after this one
  }
  __syncthreads();
  __threadfence();
  for (int i = 0; i < n_warps; ++i)
    if (merges[i].last != 0) merge_parts<kDecodeTileRows, kDim>(p, merges[i].item, merges[i].item.n_q * p.group);
}

// Notes what the cluster's warps have pieces of, for merge_items(); all threads of the CTA.
__device__ __forceinline__ void note_merges(const AttentionParams& p, const WarpSpan* spans, int n_warps,
                                            ItemMerge* merges) {
  for (int i = threadIdx.x; i < n_warps; i += blockDim.x) {
    const WarpSpan span = spans[i];
    const bool begins = span.n_pieces > 0 && span.piece == 0;
    merges[i].n_pieces = begins ? span.n_pieces : 0;
    if (begins) merges[i].item = p.work.items[span.first_item];
  }
}

#endif  // SPATE_HAS_BULK_COPY

template <KvType kType, int kDim, int kRows>
__global__ void __launch_bounds__(32 * cluster_warps_limit(kType, kDim), 1)
    attention_cluster_kernel(const AttentionParams p, int ctas_log2) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, cta_warps = blockDim.x / 32;
  const int n_warps = cta_warps << ctas_log2, warp_bytes = cluster_warp_bytes(kType, kDim, 1 << p.decode_slots_log2);
  const int cluster_warp = (warp << ctas_log2) + cluster_rank();
  auto* merges = reinterpret_cast<ItemMerge*>(shared + cta_warps * warp_bytes);
  auto* notes = reinterpret_cast<WarpNotes*>(merges + n_warps) + warp;
  const uint32_t barriers = shared_address(notes - warp + cta_warps) + warp * kMaxClusterSlots * 16;

  // What a step's plan says and the pages of earlier steps are there before the step's first kernel starts (ops.h).
  const WarpSpan* spans = p.work.spans + (blockIdx.z >> ctas_log2) * n_warps;
  const WarpSpan span = spans[cluster_warp];
  if (spans[0].first_item == spans[0].end_item) return wait_for_predecessor();  // so are all of the cluster
  PageQueue<kType, kDim> queue(p, span, shared_address(shared) + warp * warp_bytes, barriers, notes);
  if (span.first_item < span.end_item) notes->take(p.work.items[span.first_item], lane);
  note_merges(p, spans, n_warps, merges);
  wait_for_predecessor();

  WarpRows<kType, kDim, kRows / 4> rows;
  for (int i = span.first_item; i < span.end_item; ++i) {
    const bool is_first = i == span.first_item;
    if (!is_first) notes->take(p.work.items[i], lane);
    const AttentionItem& item = notes->item;
    start_rows<kType, kDim, kRows>(p, item, lane, rows);
    attend_pages<kType, kDim, kRows>(p, *notes, is_first ? span.first_listed - item.page_list : item.first_page,
                                     is_first ? span.end_listed - item.page_list : item.end_page, lane, queue, rows);
    if (span.n_pieces == 0) write_rows<kType, kDim, kRows>(p, item, lane, rows);
  }
  if (span.n_pieces > 0) PieceResult<kDim, kRows>::put(rows, lane, shared + warp * warp_bytes);
  cluster_arrive();
  cluster_wait();
  const bool split =
      merge_items<kDim, kRows>(p, merges, n_warps, cluster_warp, lane, {shared_address(shared), warp_bytes, ctas_log2});
  cluster_arrive();
  if (split) finish_split_items<kDim>(p, merges, n_warps, ctas_log2);
  cluster_wait();  // no CTA leaves while others read its shared memory
#endif
}

template <KvType kType, int kDim, int kRows>
void launch_kernel(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                   cudaStream_t stream) {
  const int shared_bytes =
      cluster_shared_bytes(kType, kDim, grid.decode_cluster, grid.decode_warps, grid.decode_stages);
  SPATE_CUDA(launch({.grid = dim3(1, 1, static_cast<unsigned>(grid.decode_ctas)),
                     .block = static_cast<unsigned>(32 * grid.decode_warps),
                     .shared_bytes = static_cast<size_t>(shared_bytes),
                     .stream = stream,
                     .dependent = args.dependent_launch,
                     .cluster_z = grid.decode_cluster},
                    attention_cluster_kernel<kType, kDim, kRows>, params,
                    std::countr_zero(static_cast<unsigned>(grid.decode_cluster))),
             "decode attention of {} CTAs in clusters of {}, {} heads over {} of {}, {} bytes of shared memory",
             grid.decode_ctas, grid.decode_cluster, args.n_heads, args.n_kv_heads, kDim, shared_bytes);
}

}  // namespace

void launch_decode_clusters(const AttentionArgs& args, const AttentionParams& params, const AttentionGrid& grid,
                            cudaStream_t stream) {
  SPATE_CHECK(std::has_single_bit(static_cast<unsigned>(grid.decode_cluster)) &&
                  grid.decode_cluster <= kMaxClusterCtas && grid.decode_ctas % grid.decode_cluster == 0 &&
                  grid.decode_warps >= 1 && grid.decode_warps <= cluster_warps_limit(args.kv.type, args.head_dim) &&
                  std::has_single_bit(static_cast<unsigned>(grid.decode_stages)) &&
                  grid.decode_stages <= kMaxClusterSlots && args.work.spans != nullptr,
              "{} CTAs in clusters of {}, {} warps, {} slots", grid.decode_ctas, grid.decode_cluster, grid.decode_warps,
              grid.decode_stages);
  with_attention_kernel(args.kv.type, args.head_dim, [&]<KvType kType, int kDim>() {
    if (grid.decode_rows <= 8) return launch_kernel<kType, kDim, 8>(args, params, grid, stream);
    launch_kernel<kType, kDim, 16>(args, params, grid, stream);
  });
}

}  // namespace spate::cuda
