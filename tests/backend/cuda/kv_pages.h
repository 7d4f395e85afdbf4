// KV pages in host memory for tests: keys and values of sequences in shuffled pages, everything else NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cuda_fp8.h>
#include <numeric>
#include <random>
#include <vector>

#include "backend/cuda/kv_pool.h"
#include "quant/half.h"

namespace spate::cuda::testing {

inline const char* kv_name(KvType type) {
  return type == KvType::kF16 ? "f16" : type == KvType::kQ8_0 ? "q8_0" : "fp8";
}

inline float fp8_value(uint8_t bits) {
  const __half_raw half = __nv_cvt_fp8_to_halfraw(bits, __NV_E4M3);
  return f16_to_f32(half.x);
}

// One layer of a pool, and which page holds which tokens.
struct KvPages {
  KvType type;
  int n_kv_heads, head_dim;
  std::vector<std::byte> bytes;            // all 0xff until written
  std::vector<int32_t> page_start, pages;  // CSR, shuffled

  // n_physical: pages in the pool, which then take turns in the page lists; 0: as many as there are in the lists.
  KvPages(KvType kv_type, int heads, int dim, const std::vector<int>& kv_len, uint32_t seed, int n_physical = 0)
      : type(kv_type), n_kv_heads(heads), head_dim(dim), page_start{0} {
    for (const int len : kv_len) page_start.push_back(page_start.back() + (len + kPageTokens - 1) / kPageTokens);
    pages.resize(page_start.back() + 3);  // some that belong to nobody
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(seed));
    if (n_physical > 0) {
      for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i % n_physical);
    }
    bytes.assign((n_physical > 0 ? n_physical : pages.size()) * page_bytes(), std::byte{0xff});
    pages.resize(std::max(1, page_start.back()));
  }

  // A gap between pages, as in a pool of several layers.
  int64_t page_bytes() const { return kv_page_bytes(type, n_kv_heads, head_dim) + 64; }

  int32_t page(int seq, int position) const { return pages[page_start[seq] + position / kPageTokens]; }

  int64_t plane(int seq, int position, int kv_head, int which) const {
    return page(seq, position) * page_bytes() + (2 * kv_head + which) * kv_plane_bytes(type, head_dim);
  }
  // Offset of dimension d of a token's key (which = 0) or value (1).
  int64_t offset(int seq, int position, int kv_head, int which, int d) const {
    const int row_bytes = kv_row_bytes(type, head_dim), byte = d * kv_elem_bytes(type);
    const int token = position % kPageTokens;
    return plane(seq, position, kv_head, which) + token * row_bytes +
           16 * kv_chunk(row_bytes, token, byte / kKvChunkBytes) + byte % kKvChunkBytes;
  }
  int64_t scale_offset(int seq, int position, int kv_head, int which, int d) const {
    return plane(seq, position, kv_head, which) + kv_scales_offset(head_dim) +
           2 * kv_scale_index(position % kPageTokens, d / kKvBlock);
  }

  uint16_t half_at(int64_t at) const {
    uint16_t half;
    std::memcpy(&half, &bytes[at], 2);
    return half;
  }

  // What the attention kernels compute with: a code of q8_0 times its scale is rounded to float16.
  float value(int seq, int position, int kv_head, int which, int d) const {
    const int64_t at = offset(seq, position, kv_head, which, d);
    if (type == KvType::kF16) return f16_to_f32(half_at(at));
    if (type == KvType::kFp8) return fp8_value(static_cast<uint8_t>(bytes[at]));
    const float scale = f16_to_f32(half_at(scale_offset(seq, position, kv_head, which, d)));
    return f16_to_f32(f32_to_f16(static_cast<float>(static_cast<int8_t>(bytes[at])) * scale));
  }

  // Writes random elements of about unit size for every token.
  void randomise(const std::vector<int>& kv_len, std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (size_t s = 0; s < kv_len.size(); ++s)
      for (int position = 0; position < kv_len[s]; ++position)
        for (int head = 0; head < n_kv_heads; ++head)
          for (int which = 0; which < 2; ++which)
            for (int d = 0; d < head_dim; ++d)
              write(static_cast<int>(s), position, head, which, d, normal(random), random);
  }

 private:
  void write(int seq, int position, int kv_head, int which, int d, float x, std::mt19937& random) {
    const int64_t at = offset(seq, position, kv_head, which, d);
    if (type == KvType::kF16) {
      const uint16_t half = f32_to_f16(x);
      std::memcpy(&bytes[at], &half, 2);
    } else if (type == KvType::kFp8) {
      bytes[at] = static_cast<std::byte>(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    } else {
      if (d % kKvBlock == 0) {
        const uint16_t scale = f32_to_f16(0.01f + 0.01f * static_cast<float>(random() % 1024) / 1024);
        std::memcpy(&bytes[scale_offset(seq, position, kv_head, which, d)], &scale, 2);
      }
      bytes[at] = static_cast<std::byte>(static_cast<int>(random() % 255) - 127);
    }
  }
};

}  // namespace spate::cuda::testing
