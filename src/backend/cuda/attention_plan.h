// Which CTA attends to what: planned on the host for every step, from lengths alone, and read by the attention kernels
// (ops.h) from device memory, so that a captured graph serves every step of its bucket.
//
// A query head of a token is a row; the rows of one KV head (the group's heads of one or several tokens) share its keys
// and values. A sequence whose rows fit in one tile of 16 is work for the decode kernel, which reads KV at the speed of
// memory; others go to the prefill kernel in tiles of 64 rows. Both cut long KV into parts where that
// fills the device; the part that ends last merges them, always in the order of the parts, so that results do not
// depend on timing.
//
// Decode, where the device has them: a fixed grid of clusters of CTAs whose warps each have a share
// (attention_cluster_plan.h). Elsewhere, or with attention_split_pages, a fixed grid of CTAs, each with an equal share
// of the bytes: the (sequence, KV head, page) space is laid out in a line and cut into equal shares; a CTA's share is
// its list of items. Prefill: a CTA an item, the longest first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/cuda/attention_cluster_plan.h"
#include "backend/cuda/attention_tiles.h"
#include "backend/cuda/cluster_room.h"
#include "backend/cuda/device_profile.h"
#include "backend/cuda/kv_pool.h"

namespace spate::cuda {

// Rows of one KV head against a range of a sequence's pages.
struct alignas(16) AttentionItem {
  int32_t seq;  // of the step
  int32_t kv_head;
  int32_t q_start;  // the sequence's first query token in the step
  int32_t n_q;      // its query tokens; token i of them stands at position kv_len - n_q + i
  int32_t kv_len;
  int32_t page_list;             // where the sequence's page list starts in DeviceBatch::pages
  int32_t first_page, end_page;  // [first_page, end_page) in it
  int32_t first_row;             // row r is head r % group of token r / group; tiles start at multiples of their rows
  uint16_t part, n_parts;        // of the parts that the rows' KV was cut into; 1: the item is the whole
  int32_t first_partial;         // part p leaves its result in partial slot first_partial + p
  int32_t counter;               // of the parts that have ended
};
static_assert(sizeof(AttentionItem) == 48);

// Device pointers into the block that AttentionPlanner::plan fills.
struct AttentionWork {
  const int32_t* cta_start;    // [decode_ctas + 1] decode CTA c works on items [cta_start[c], cta_start[c + 1])
  const int32_t* n_prefill;    // [1] prefill CTA i < n_prefill works on item cta_start[decode_ctas] + i
  const AttentionItem* items;  // decode's, then prefill's
  const WarpSpan* spans;       // [clusters, warps of a cluster]; null: no clusters
  int decode_ctas;             // 0: clusters, which work on items [0, cta_start[0])
};

// Memory of the parts' results, one per stream. Counters are zero before the first step, and after each.
struct AttentionScratch {
  float* decode_partials;   // [slots][kDecodeTileRows][head_dim + 2]: rows, then maxima, then sums
  float* prefill_partials;  // [slots][prefill tile rows][head_dim + 2]
  uint32_t* counters;
};

struct AttentionScratchSize {
  int64_t decode_elems, prefill_elems;
  int n_counters;
};

// What the two kernels are launched with.
struct AttentionGrid {
  int decode_ctas = 0;
  int decode_warps = 0;    // a CTA
  int decode_stages = 0;   // slots of a warp's ring
  int decode_cluster = 0;  // CTAs of a cluster; 0: none, the kernel without them
  int decode_rows = 0;     // 8 or 16: rows that the decode kernel computes; 0: nothing to decode, no launch
  int prefill_ctas = 0;    // 0: no launch
  int prefill_rows = 0;    // a tile

  // Whether a launch with this grid runs a plan that asked for `plan`.
  bool covers(const AttentionGrid& plan) const;
};

struct AttentionShape {
  int n_heads, n_kv_heads, head_dim;
  KvType kv_type;
  int group() const { return n_heads / n_kv_heads; }
};

class AttentionPlanner {
 public:
  // max_context: tokens of a sequence at most. room: how many clusters the device runs at once; none: by estimate.
  // CHECKs that head_dim has kernels (64, 80, 96, 128, 256).
  AttentionPlanner(const AttentionShape& shape, const DeviceProfile& profile, int max_seqs, int max_step_tokens,
                   int max_context, const ClusterRoom& room = {});

  // Worst cases, for allocation.
  int64_t work_bytes() const { return work_bytes_; }
  AttentionScratchSize scratch_size() const;

  // Pointers into a block of work_bytes() on the device (16-byte aligned), for AttentionArgs.
  AttentionWork work_at(const std::byte* device_block) const;

  struct Planned {
    AttentionGrid grid;  // what the step needs
    int64_t used_bytes;  // leading bytes of the block to upload
  };

  // Plans a step of S sequences: q_start[S + 1], kv_len[S], pages as in DeviceBatch: the page lists lie end to end and
  // hold just the pages that cover kv_len. Fills block[work_bytes()], host memory, 16-byte aligned. n_seqs: that a
  // graph which may run the plan was captured for, at least S; 0: S. Allocates nothing.
  Planned plan(std::span<const int32_t> q_start, std::span<const int32_t> kv_len, std::span<const int32_t> pages,
               std::span<std::byte> block, int n_seqs = 0);

  // The grid to capture for steps of up to n_seqs sequences that bring one token each: covers every plan for n_seqs of
  // such steps.
  AttentionGrid decode_grid(int n_seqs) const;

 private:
  struct Filling;
  bool is_decode(int n_q) const;
  template <typename Visit>
  void for_decodes(std::span<const int32_t> q_start, std::span<const int32_t> kv_len, const Visit& visit) const;
  int64_t spans_offset() const;
  int64_t items_offset() const;
  int max_prefill_parts() const;
  // Clusters of a size, and the slots of their warps.
  struct Clusters {
    ClusterShape shape;
    int slots;
  };
  Clusters make_clusters(int ctas, const DeviceProfile& profile, const ClusterRoom& room) const;
  bool has_clusters() const { return few_.shape.ctas > 0; }
  const Clusters& clusters_for(int n_seqs) const;
  int max_cluster_parts() const { return std::max(max_split_parts(few_.shape), max_split_parts(many_.shape)); }
  AttentionGrid decode_launch(int n_seqs) const;
  void plan_decode(std::span<const int32_t> q_start, std::span<const int32_t> kv_len, Filling& filling) const;
  void plan_clusters(std::span<const int32_t> q_start, std::span<const int32_t> kv_len, std::span<const int32_t> pages,
                     const ClusterShape& clusters, Filling& filling);
  void plan_prefill(std::span<const int32_t> q_start, std::span<const int32_t> kv_len, Filling& filling) const;

  AttentionShape shape_;
  Clusters few_{}, many_{};  // for few items and for many; no CTAs: none
  DecodeGeometry decode_;    // without clusters
  int decode_ctas_;          // without clusters
  int n_sms_, split_pages_;
  int max_seqs_, max_step_tokens_, max_pages_;  // max_pages_: of a sequence
  int64_t work_bytes_;
  std::vector<DecodeSequence> decodes_;  // of the step being planned
};

}  // namespace spate::cuda
