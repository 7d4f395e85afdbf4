// The KV cache in device memory: pages of 32 tokens, all layers and heads of one type.
//
// A page of one layer holds, for each KV head, a plane of keys and then one of values: [n_kv_heads][2][plane]. A plane
// is [kPageTokens][head_dim] elements, float16 or one byte each; for q8_0 scales follow, float16, [blocks of 32
// dimensions][kPageTokens] (transposed: a fragment of the values needs the scales of two neighbouring tokens). A value
// is code * scale; the last block of a head size that is no multiple of 32 is short.
//
// The 16-byte chunks of a token's row are stored XORed with bits of the token (kv_chunk), so that a plane copied to
// shared memory as it is serves any eight tokens' chunks of the same index (what ldmatrix reads) from eight different
// groups of four banks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cuda/activations.h"
#include "backend/executor.h"

namespace spate::cuda {

enum class KvType { kF16, kQ8_0, kFp8 };

inline constexpr int kKvBlock = 32;       // dimensions that share a scale in q8_0
inline constexpr int kKvChunkBytes = 16;  // what swizzling moves

// One layer's part of the pool.
struct KvLayer {
  std::byte* pages;    // page p of this layer at pages + p * page_bytes
  int64_t page_bytes;  // distance from a page to the next, a multiple of 16; >= kv_page_bytes()
  KvType type;
};

SPATE_HD constexpr int kv_elem_bytes(KvType type) {
  return type == KvType::kF16 ? 2 : 1;
}

// Bytes of a token's row in a plane, without scales. head_dim: a multiple of 16.
SPATE_HD constexpr int kv_row_bytes(KvType type, int head_dim) {
  return head_dim * kv_elem_bytes(type);
}

// Of one head's keys (or values) in one page, scales included.
SPATE_HD constexpr int kv_plane_bytes(KvType type, int head_dim) {
  const int scales = type == KvType::kQ8_0 ? (head_dim + kKvBlock - 1) / kKvBlock : 0;
  return kPageTokens * (kv_row_bytes(type, head_dim) + 2 * scales);
}

// Of one layer's part of a page.
SPATE_HD constexpr int64_t kv_page_bytes(KvType type, int n_kv_heads, int head_dim) {
  return int64_t{2} * n_kv_heads * kv_plane_bytes(type, head_dim);
}

// Where chunk `chunk` of a token's row is stored, in chunks from the row's start; `token` counts within the page. A row
// of n chunks starts n chunks after the row before, so eight rows' chunks collide as often as n has factors of two: as
// many bits of the token, its highest of three, are XORed in.
SPATE_HD constexpr int kv_chunk(int row_bytes, int token, int chunk) {
  const int n = row_bytes / kKvChunkBytes;
  const int bits = n % 8 == 0 ? 3 : n % 4 == 0 ? 2 : n % 2 == 0 ? 1 : 0;
  return chunk ^ ((token & 7) >> (3 - bits));
}

// Where scales of q8_0 start in a plane, and which one belongs to a token and a block of dimensions (a float16 each).
SPATE_HD constexpr int kv_scales_offset(int head_dim) {
  return kPageTokens * head_dim;
}
SPATE_HD constexpr int kv_scale_index(int token, int block) {
  return block * kPageTokens + token;
}

}  // namespace spate::cuda
