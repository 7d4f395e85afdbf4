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

// Decode: every warp streams planes (a page's keys, then its values) through a ring of its own. Memory is kept busy by
// what is in flight: 4.6 TB/s times the 1.2 us that a loaded H200 takes to answer is 42 KB an SM. Rings of 70 to 200 KB
// an SM hold that twice, so that it stays in flight while some warps compute.
SPATE_HD constexpr int plane_slot_bytes(KvType type, int head_dim) {
  return (kv_plane_bytes(type, head_dim) + 127) / 128 * 128;
}
SPATE_HD constexpr int decode_stages(int head_dim) {
  return head_dim > 128 ? 3 : 4;
}
// Floats between the rows of a warp's result in shared memory: 8 apart in banks, so that fragments are written without
// conflicts.
SPATE_HD constexpr int decode_row_pitch(int head_dim) {
  return head_dim + 8;
}
// Of one warp: its ring, its result, and the maximum and sum of each row.
SPATE_HD constexpr int decode_warp_bytes(KvType type, int head_dim, int rows) {
  return decode_stages(head_dim) * plane_slot_bytes(type, head_dim) + rows * (decode_row_pitch(head_dim) + 2) * 4;
}
inline constexpr int kSharedReserve = 128;  // what else a CTA keeps
// Warps of a CTA: small planes are more work a byte, so they want more warps.
SPATE_HD constexpr int decode_warps(KvType type, int head_dim, int shared_bytes_per_block) {
  const int wanted = plane_slot_bytes(type, head_dim) <= 4608 ? 8 : 4;
  const int fitting = (shared_bytes_per_block - kSharedReserve) / decode_warp_bytes(type, head_dim, kDecodeTileRows);
  return fitting < 1 ? 1 : fitting < wanted ? fitting : wanted;
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
