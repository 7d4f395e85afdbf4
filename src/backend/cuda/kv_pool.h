// The KV cache in device memory: pages of 32 tokens, all layers and heads of one type.
//
// A page of one layer holds, for each KV head, its keys and then its values: [n_kv_heads][2][kPageTokens][head_dim]. In
// float16 a row's 16-byte chunks are stored XORed with token & 7 (chunk c of token t at chunk c ^ (t & 7) within its
// group of eight chunks), so that a bulk copy of a page lands free of bank conflicts; head sizes whose rows are not a
// multiple of 128 bytes XOR within the largest power-of-two group of chunks that divides the row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/executor.h"

namespace spate::cuda {

enum class KvType { kF16, kQ8_0, kFp8 };

// One layer's part of the pool.
struct KvLayer {
  std::byte* pages;    // page p of this layer at pages + p * page_bytes
  int64_t page_bytes;  // of one layer
  KvType type;
};

}  // namespace spate::cuda
