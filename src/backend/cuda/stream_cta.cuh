// What CTAs that stay are made of (matmul_stream.h): which panels and segments fall to whom, the warps' rings of
// weights, and where sums are collected and finished. Knows nothing of activations or of how chunks are multiplied.
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cuda/bulk_copy.cuh"
#include "backend/cuda/cluster.cuh"
#include "backend/cuda/matmul_epilogue.cuh"
#include "backend/cuda/matmul_stream.h"

namespace spate::cuda {

#if SPATE_HAS_BULK_COPY

// The CTA's in its cluster, where CTAs may share K (Chunks::kSplits).
struct ClusterPlace {
  int rank, log2;

  template <class Chunks>
  __device__ static ClusterPlace of(const MmaParams& p) {
    if constexpr (Chunks::kSplits) return {static_cast<int>(blockIdx.z), p.stream.cluster_log2};
    return {0, 0};
  }
  __device__ KShare k_share(const MmaParams& p) const { return KShare::of(p.n_k_tiles, log2, rank); }
};

// A warp's place among its CTA's segments: `segment` of the CTA's i-th slot.
struct SegmentWalk {
  int i, segment;

  __device__ static SegmentWalk first(int warp, const StreamShape& shape) {
    return {warp / shape.n_segments, warp % shape.n_segments};
  }
  __device__ void advance(const StreamShape& shape) {
    for (segment += shape.n_warps; segment >= shape.n_segments; segment -= shape.n_segments) ++i;
  }
  __device__ int first_chunk(const StreamShape& shape) const { return segment * shape.segment_chunks; }
  // Of a panel of n_chunks.
  __device__ int chunks(const StreamShape& shape, int n_chunks) const {
    return min(shape.segment_chunks, n_chunks - first_chunk(shape));
  }
};

// The CTA's slots: every gridDim.x-th, from its own number on; of SwiGLU's, every such pair of gate and up. CTAs that
// share K have the same ones.
struct CtaSlots {
  int n;
  bool pairs;
  int first, stride;

  __device__ explicit CtaSlots(const MmaParams& p)
      : pairs(p.epilogue == Epilogue::kSwiGlu),
        first(static_cast<int>(blockIdx.x)),
        stride(static_cast<int>(gridDim.x)) {
    const int n_groups = pairs ? p.n_slots / 2 : p.n_slots;
    const int mine = (n_groups - first + stride - 1) / gridDim.x;
    n = pairs ? 2 * mine : mine;
  }
  __device__ int operator[](int i) const { return pairs ? 2 * (first + i / 2 * stride) + i % 2 : first + i * stride; }
  // Those that the CTA finishes: of a cluster's, slots or pairs, every 2^log2-th, from its rank on.
  __device__ CtaSlots finished(const ClusterPlace& cluster) const {
    CtaSlots some = *this;
    const int mine = ((pairs ? n / 2 : n) - cluster.rank + (1 << cluster.log2) - 1) >> cluster.log2;
    some.n = pairs ? 2 * mine : mine;
    some.first += cluster.rank * stride;
    some.stride <<= cluster.log2;
    return some;
  }
};

// A warp's ring: the weights of the chunks ahead of it; of a warp that does not multiply, an empty one. Chunks:
// kStageBytes, that the largest takes; kPerTile of K; bytes(part), of one of a part's; and whether a cluster's CTAs may
// share K, kSplits.
template <class Chunks>
class ChunkRing {
 public:
  __device__ ChunkRing(const MmaParams& p, const CtaSlots& slots, const StreamLayout& at, std::byte* shared, int warp)
      : p_(p),
        slots_(slots),
        next_(SegmentWalk::first(warp, p.stream)),
        ring_(shared + at.ring + warp * at.ring_of_warp) {
    if (warp >= p.stream.n_warps) return;
    barriers_ = shared_address(shared) + at.barriers + 8 * warp * p.stream.n_stages;
    if (elect_lane()) {
      for (int i = 0; i < p.stream.n_stages; ++i) barrier_init(barriers_ + 8 * i, 1);
      publish_barriers();
    }
    __syncwarp();
    begin_segment();
    for (int i = 0; i < p.stream.n_early; ++i) fill(i);
  }

  // Fills the stages that are left, once activations have been asked for.
  __device__ void fill_rest() {
    for (int i = p_.stream.n_early; i < p_.stream.n_stages; ++i) fill(i);
  }

  // The current stage, once its chunk has come.
  __device__ const std::byte* wait() const {
    barrier_wait(barriers_ + 8 * stage_, phase_);
    return ring_ + stage_ * Chunks::kStageBytes;
  }

  // The warp has read the current stage: it gets the next chunk that has no place yet.
  __device__ void refill() {
    __syncwarp();
    fill(stage_);
    if (++stage_ == p_.stream.n_stages) {
      stage_ = 0;
      phase_ ^= 1;
    }
  }

 private:
  __device__ void begin_segment() {
    left_ = 0;
    if (next_.i >= slots_.n) return;
    const SlotPlace place = slot_place(p_, slots_[next_.i]);
    const MatmulPart& part = p_.parts[place.part];
    const KShare k = ClusterPlace::of<Chunks>(p_).k_share(p_);
    n_bytes_ = Chunks::bytes(part);
    const int64_t first_tile = int64_t{place.panel} * p_.n_k_tiles + k.first;
    from_ = part.tiles + (first_tile * Chunks::kPerTile + next_.first_chunk(p_.stream)) * n_bytes_;
    left_ = next_.chunks(p_.stream, k.n * Chunks::kPerTile);
  }

  __device__ void fill(int stage) {
    if (left_ == 0) return;
    if (elect_lane())
      copy_bulk(shared_address(ring_) + stage * Chunks::kStageBytes, from_, n_bytes_, barriers_ + 8 * stage);
    advance();
  }

  __device__ void advance() {
    from_ += n_bytes_;
    if (--left_ == 0) {
      next_.advance(p_.stream);
      begin_segment();
    }
  }

  const MmaParams& p_;
  const CtaSlots& slots_;
  SegmentWalk next_;  // whose chunks come next, from from_ on
  const std::byte* from_ = nullptr;
  int left_ = 0;
  int n_bytes_ = Chunks::kStageBytes;  // of each of these
  std::byte* ring_;
  uint32_t barriers_ = 0;
  int stage_ = 0;
  uint32_t phase_ = 0;
};

// Where another CTA of the cluster collects sums: written by themselves, they count at its barrier.
struct RemoteSums {
  uint32_t to, barrier;

  struct Element {
    uint32_t to, barrier;
    __device__ void operator=(float value) const { store_async(to, value, barrier); }
  };
  __device__ Element operator[](int i) const { return {to + 4 * i, barrier}; }
};

// Where the sums of panels are collected: 2^places_log2 of them at once, [segment][token][row] each, the i-th slot that
// the CTA finishes in place i modulo that. Of CTAs that share K, segments come in their order.
//
// No CTA of a cluster ends while another may still use its shared memory: it ends when it has all sums that the others
// leave there, and these look for a free place before they do.
class PanelSums {
 public:
  __device__ PanelSums(const MmaParams& p, const StreamLayout& at, std::byte* shared, int tokens_log2,
                       const ClusterPlace& cluster)
      : p_(p),
        cluster_(cluster),
        sums_(reinterpret_cast<float*>(shared + at.sums)),
        full_(shared_address(shared) + at.barriers + 8 * p.stream.n_warps * p.stream.n_stages),
        n_finished_(full_ + (8 << p.stream.places_log2)),
        tokens_log2_(tokens_log2) {}

  // One thread, before a barrier of the CTA.
  __device__ void init() const {
    for (int i = 0; i < 1 << p_.stream.places_log2; ++i) {
      barrier_init(full_ + 8 * i, p_.stream.n_segments);
      store_release(n_finished_ + 4 * i, 0);
    }
    if (cluster_.log2 > 0) publish_barriers();
  }

  // Has a warp leave its sums of a segment of the i-th slot that the CTA finishes, once the slots before it in this
  // place are finished: leave(to), to [token][row]. A count tells, not a barrier's parity: a warp may be two rounds
  // ahead of the slowest.
  template <typename Leave>
  __device__ void add(int i, int segment, Leave&& leave) const {
    while (load_acquire(n_finished_ + 4 * place(i)) < round(i)) {
    }
    leave(of(i) + (segment_of_all(segment) * kTileRows << tokens_log2_));
    __syncwarp();
    if (!elect_lane()) return;
    if (cluster_.log2 == 0) {
      barrier_arrive(full_ + 8 * place(i));
    } else {  // and announces the others' sums of as many segments; these may be there already
      barrier_expect(full_ + 8 * place(i), ((1 << cluster_.log2) - 1) * (kTileRows * 4) << tokens_log2_);
    }
  }

  // The same of the i-th slot of a cluster, which one of its CTAs finishes. leave(to) takes RemoteSums as well.
  template <typename Leave>
  __device__ void add_in_cluster(bool pairs, int i, int segment, Leave&& leave) const {
    const int pair = pairs ? 1 : 0, group = i >> pair, rank = group & ((1 << cluster_.log2) - 1);
    i = (group >> cluster_.log2 << pair) + (i & pair);
    if (rank == cluster_.rank) return add(i, segment, leave);
    while (round(i) > 0 && load_acquire_cluster(cluster_address(n_finished_ + 4 * place(i), rank)) < round(i)) {
    }
    const uint32_t to = shared_address(of(i) + (segment_of_all(segment) * kTileRows << tokens_log2_));
    leave(RemoteSums{cluster_address(to, rank), cluster_address(full_ + 8 * place(i), rank)});
  }

  // Writes every kFinishers-th of the slots that the CTA finishes, of SwiGLU's pairs, as their sums become complete.
  template <int kMaxTokens>
  __device__ void finish_all(const CtaSlots& slots, int finisher) const {
    const int lane = threadIdx.x % 32, row = lane % kTileRows;
    if (slots.pairs) {
      for (int i = 2 * finisher; i < slots.n; i += 2 * kFinishers) {
        const int panel = slots[i] / 2;
        wait_full(i);
        wait_full(i + 1);
        for (int token = lane / kTileRows; token < p_.n_tokens; token += 2)
          store_swiglu(p_, panel, row, token, sum(i, token, row), sum(i + 1, token, row));
        release(i);
        release(i + 1);
      }
      return;
    }
    for (int i = finisher; i < slots.n; i += kFinishers) {
      // Waits where it needs the sums: the residual has been asked for by then. The panel's first row always waits.
      store_sums<(kMaxTokens + 1) / 2>(p_, {slots[i], row, 0, lane / kTileRows, p_.n_tokens, 2}, [&](int token) {
        wait_full(i);
        return sum(i, token, row);
      });
      release(i);
    }
  }

 private:
  __device__ int place(int i) const { return i & ((1 << p_.stream.places_log2) - 1); }
  __device__ uint32_t round(int i) const { return i >> p_.stream.places_log2; }
  __device__ int all_segments() const { return p_.stream.n_segments << cluster_.log2; }
  __device__ int segment_of_all(int segment) const { return cluster_.rank * p_.stream.n_segments + segment; }
  __device__ float* of(int i) const { return sums_ + (place(i) * all_segments() * kTileRows << tokens_log2_); }
  __device__ void wait_full(int i) const {
    if (cluster_.log2 == 0) {
      barrier_wait(full_ + 8 * place(i), round(i) & 1);
    } else {
      barrier_wait_cluster(full_ + 8 * place(i), round(i) & 1);
    }
  }
  __device__ void release(int i) const {
    __syncwarp();
    if (!elect_lane()) return;
    if (cluster_.log2 == 0) {
      store_release(n_finished_ + 4 * place(i), round(i) + 1);
    } else {
      store_release_cluster(n_finished_ + 4 * place(i), round(i) + 1);
    }
  }
  __device__ float sum(int i, int token, int row) const {
    const float* from = of(i) + token * kTileRows + row;
    float total = 0;
#pragma unroll 4
    for (int s = 0; s < all_segments(); ++s) total += from[s * kTileRows << tokens_log2_];
    return total;
  }

  const MmaParams& p_;
  ClusterPlace cluster_;
  float* sums_;
  uint32_t full_;        // barriers, by place
  uint32_t n_finished_;  // counts, by place
  int tokens_log2_;
};

// Whole tiles as chunks, of a part's own type.
template <class Tile, class SecondTile, bool splits = false>
struct TileChunks {
  static constexpr int kStageBytes = std::max(Tile::kBytes, SecondTile::kBytes), kPerTile = 1;
  static constexpr bool kSplits = splits;
  static_assert(Tile::kBytes % 16 == 0 && SecondTile::kBytes % 16 == 0, "what bulk copies can bring");
  __device__ static int bytes(const MatmulPart& part) {
    if constexpr (std::is_same_v<Tile, SecondTile>) {
      return Tile::kBytes;
    } else {
      return part.second ? SecondTile::kBytes : Tile::kBytes;
    }
  }
};

// A multiplying warp's work. Rows: the CTA's activations and what multiplies them, for one type of weights: Sums, a
// lane's of a segment; multiply(ring, first_chunk, n_chunks, sums) adds to them; leave(sums, to) puts the warp's at
// [token][row], where CTAs may share K also of RemoteSums. Of two types both leave sums alike.
template <class Chunks, class Rows, class SecondRows>
__device__ __forceinline__ void multiply_all(const MmaParams& p, const CtaSlots& slots, const PanelSums& panels,
                                             const Rows& first, const SecondRows& second, int warp,
                                             ChunkRing<Chunks>& ring) {
  const ClusterPlace cluster = ClusterPlace::of<Chunks>(p);
  for (SegmentWalk walk = SegmentWalk::first(warp, p.stream); walk.i < slots.n; walk.advance(p.stream)) {
    const int first_chunk = walk.first_chunk(p.stream),
              n_chunks = walk.chunks(p.stream, cluster.k_share(p).n * Chunks::kPerTile);
    typename Rows::Sums sums = {};
    bool is_second = false;
    if constexpr (!std::is_same_v<Rows, SecondRows>) {
      is_second = p.parts[slot_place(p, slots[walk.i]).part].second;
      if (is_second) second.multiply(ring, first_chunk, n_chunks, sums);
    }
    if (!is_second) first.multiply(ring, first_chunk, n_chunks, sums);
    const auto leave = [&](auto to) { first.leave(sums, to); };
    if constexpr (Chunks::kSplits) {
      if (cluster.log2 > 0) {
        panels.add_in_cluster(slots.pairs, walk.i, walk.segment, leave);
        continue;
      }
    }
    panels.add(walk.i, walk.segment, leave);
  }
}

// A CTA's work, its sums of 2^tokens_log2 tokens. Its multiplying warps fill the first stages of their rings before the
// predecessor has ended, then call prepare(warp, ring), which readies the activations and fills the other stages, and
// multiply when activations are ready in all of them. The other warps meanwhile work out what sums are multiplied by
// (FoldedNorm), and finish panels. Neither waits for the others at a barrier.
template <class Chunks, class Rows, class SecondRows, typename Prepare>
__device__ __forceinline__ void run_streaming(const MmaParams& p, const StreamLayout& at, int tokens_log2,
                                              std::byte* shared, const Rows& first, const SecondRows& second,
                                              Prepare&& prepare) {
  // From one lane, so that the compiler knows it, and all that follows from it, to be the same in the warp.
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0), finisher = warp - p.stream.n_warps;
  const ClusterPlace cluster = ClusterPlace::of<Chunks>(p);
  const CtaSlots slots(p);
  const PanelSums panels(p, at, shared, tokens_log2, cluster);
  if (threadIdx.x == 32 * p.stream.n_warps) panels.init();
  ChunkRing<Chunks> ring(p, slots, at, shared, warp);
  if (cluster.log2 > 0) {
    cluster_arrive();
  } else {
    __syncthreads();
  }
  wait_for_predecessor();
  constexpr int kWarpsReady = 1, kFactorsReady = 2;  // barriers
  if (finisher < 0) {
    prepare(warp, ring);
    sync_some(kWarpsReady, 32 * p.stream.n_warps);
  } else {
    // A token's squares by so many lanes that those of all tokens are asked for at once.
    prepare_token_factors<Rows::kMaxTokens == 1 ? 32 : 8>(p, 0, p.n_tokens, threadIdx.x - 32 * p.stream.n_warps,
                                                          32 * kFinishers);
    sync_some(kFactorsReady, 32 * kFinishers);
  }
  if (cluster.log2 > 0) cluster_wait();  // all CTAs of the cluster are there and ready for sums
  if (finisher < 0) {
    multiply_all<Chunks>(p, slots, panels, first, second, warp, ring);
  } else {
    panels.template finish_all<Rows::kMaxTokens>(slots.finished(cluster), finisher);
  }
}

#endif  // SPATE_HAS_BULK_COPY

}  // namespace spate::cuda
