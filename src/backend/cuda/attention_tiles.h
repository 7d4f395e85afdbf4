// Sizes that the attention kernels and their planner agree on.
#pragma once

#include <cstdint>

#include "backend/cuda/activations.h"
#include "backend/cuda/kv_pool.h"

namespace spate::cuda {

inline constexpr int kDecodeTileRows = 16;
inline constexpr int kPrefillTileRows = 64;

SPATE_HD constexpr bool has_attention_kernel(int head_dim) {
  return head_dim == 64 || head_dim == 80 || head_dim == 96 || head_dim == 128 || head_dim == 256;
}

inline constexpr int kSharedReserve = 128;  // what else a CTA keeps

SPATE_HD constexpr int plane_slot_bytes(KvType type, int head_dim) {
  return (kv_plane_bytes(type, head_dim) + 127) / 128 * 128;
}

// Decode: every warp streams planes (a page's keys, then its values) through a ring of its own, of 2 to 4 slots. Memory
// is kept busy by what is in flight: 4.6 TB/s times the 1.2 us that a loaded H200 takes to answer is 42 KB an SM; all
// slots but the one in use count.
inline constexpr int kMaxDecodeWarps = 8, kMinDecodeStages = 2, kMaxDecodeStages = 4;
// Shared memory of a CTA of up to 8 rows at most: what is left lets the kernel after this one start early.
inline constexpr int kDecodeSharedBudget = 176 * 1024;

// Floats between the rows of a warp's result in shared memory: 8 apart in banks, so that fragments are written without
// conflicts.
SPATE_HD constexpr int decode_row_pitch(int head_dim) {
  return head_dim + 8;
}
// Rings, the warps' results, and the maximum and sum of each row.
SPATE_HD constexpr int decode_shared_bytes(KvType type, int head_dim, int rows, int warps, int stages) {
  return warps * (stages * plane_slot_bytes(type, head_dim) + rows * (decode_row_pitch(head_dim) + 2) * 4) +
         kSharedReserve;
}

struct DecodeGeometry {
  int warps, stages;
};
// As many warps as fit, then as many slots.
constexpr DecodeGeometry decode_geometry(KvType type, int head_dim, int shared_bytes_per_block) {
  const auto fits = [&](int n_warps, int stages) {
    return decode_shared_bytes(type, head_dim, 8, n_warps, stages) <= kDecodeSharedBudget &&
           decode_shared_bytes(type, head_dim, kDecodeTileRows, n_warps, stages) <= shared_bytes_per_block;
  };
  DecodeGeometry geometry{.warps = kMaxDecodeWarps, .stages = kMinDecodeStages};
  while (geometry.warps > 1 && !fits(geometry.warps, geometry.stages)) --geometry.warps;
  while (geometry.stages < kMaxDecodeStages && fits(geometry.warps, geometry.stages + 1)) ++geometry.stages;
  return geometry;
}

// Decode by clusters: a slot holds a page's keys and values of one KV head, which lie beside each other, and comes by
// one bulk copy. A warp that has read its last page leaves its result in its slots.
inline constexpr int kMaxClusterCtas = 8, kMaxClusterWarps = 12, kMaxClusterSlots = 4;
inline constexpr int kClusterSharedBudget = 208 * 1024;  // of a CTA's slots

// As the 65,536 registers of an SM allow: decoding elements of 8 bits takes more of them.
SPATE_HD constexpr int cluster_warps_limit(KvType type, int head_dim) {
  return head_dim <= (type == KvType::kF16 ? 128 : 96) ? kMaxClusterWarps : 8;
}
SPATE_HD constexpr int cluster_page_bytes(KvType type, int head_dim) {
  return 2 * kv_plane_bytes(type, head_dim);
}
// Rows, then the maximum and the sum of each.
SPATE_HD constexpr int cluster_result_bytes(int head_dim, int rows) {
  return rows * (decode_row_pitch(head_dim) + 2) * 4;
}
SPATE_HD constexpr int cluster_warp_bytes(KvType type, int head_dim, int slots) {
  const int pages = slots * cluster_page_bytes(type, head_dim);
  const int result = cluster_result_bytes(head_dim, kDecodeTileRows);
  return ((pages > result ? pages : result) + 127) / 128 * 128;
}
// What is kept of an item to be merged, for each warp of the cluster, and of each warp's own work.
inline constexpr int kClusterMergeBytes = 64, kClusterNotesBytes = 64;
SPATE_HD constexpr int cluster_shared_bytes(KvType type, int head_dim, int ctas, int warps, int slots) {
  return warps * (cluster_warp_bytes(type, head_dim, slots) + kClusterNotesBytes + kMaxClusterSlots * 16) +
         ctas * warps * kClusterMergeBytes;
}
// As many warps as fit, then as many slots, a power of two; DecodeGeometry's stages are slots.
constexpr DecodeGeometry cluster_geometry(KvType type, int head_dim, int ctas, int shared_bytes_per_block) {
  const auto fits = [&](int n_warps, int slots) {
    return n_warps * cluster_warp_bytes(type, head_dim, slots) <= kClusterSharedBudget &&
           cluster_shared_bytes(type, head_dim, ctas, n_warps, slots) <= shared_bytes_per_block;
  };
  DecodeGeometry geometry{.warps = cluster_warps_limit(type, head_dim), .stages = 1};
  while (geometry.warps > 1 && !fits(geometry.warps, 1)) --geometry.warps;
  while (geometry.stages < kMaxClusterSlots && fits(geometry.warps, 2 * geometry.stages)) geometry.stages *= 2;
  return geometry;
}

// Prefill: two stages of keys and values.
SPATE_HD constexpr int prefill_stage_pages(int head_dim) {
  return head_dim > 128 ? 1 : 2;
}
SPATE_HD constexpr int prefill_shared_bytes(KvType type, int head_dim) {
  return 2 * 2 * prefill_stage_pages(head_dim) * plane_slot_bytes(type, head_dim) + kSharedReserve;
}

// Floats of a part's result: rows, then the rows' maxima, then their sums.
SPATE_HD constexpr int64_t partial_elems(int tile_rows, int head_dim) {
  return int64_t{tile_rows} * (head_dim + 2);
}

}  // namespace spate::cuda
