// What the kernels of matmul.h are launched with: MatmulArgs resolved for the device.
#pragma once

#include <cstdint>
#include <cuda_fp16.h>

#include "backend/cuda/matmul.h"

namespace spate::cuda {

inline constexpr int kMaxParts = 3;

// One matrix of a product. Panels are 16 rows; a product's panels are numbered through its parts.
struct MatmulPart {
  const std::byte* tiles;
  int panel_end;  // one past its last panel, counted from the first part's first
  int n_rows;
  int column;                // of its first row in y
  float factor;              // what a sum is multiplied by: the activations' scale over the weights'
  const float* row_factors;  // [n_rows in whole panels] what it is multiplied by besides; null: nothing
  bool second;               // its tiles are of the kernel's second format
};

// How a CTA of matmul_stream.h is laid out: warps that multiply, and the chunks of weights that each keeps in shared
// memory.
struct StreamShape {
  int n_warps = 0;
  int n_stages = 0;
  int n_early = 0;         // of these, filled before the predecessor has ended
  int segment_chunks = 0;  // of a panel, to a warp at a time
  int n_segments = 0;      // of a panel, in a CTA
  int places_log2 = 0;     // panels whose sums are being collected at once
  int cluster_log2 = 0;    // CTAs that share K, 2^this: a cluster along z
};

// How a CTA of matmul_wide.cuh is laid out: stages of its rings.
// Aligned so that both are read at once: read apart, they cost the loop of Q4_K with 32 tokens 319 instructions a tile
// instead of 298 (ptxas of CUDA 13.0, counted 2026-11-23).
struct alignas(8) WideShape {
  int x_stages = 0;       // of activations
  int weight_stages = 0;  // of each warp's weights
};

struct MmaParams {
  const __half* x;  // [n_tokens, x_stride]
  int x_stride;     // padded_cols(K)
  int n_tokens;
  int n_k_tiles;
  MatmulPart parts[kMaxParts];
  int n_parts;
  int n_slots;  // panels over all parts; for SwiGLU slot 2 i is panel i of the gate, 2 i + 1 panel i of up
  Epilogue epilogue;
  float* y;
  int64_t y_stride;
  __half* ff;
  int64_t ff_stride;
  float* partials;     // [CTAs without the split, split_k, tokens, rows] of a CTA's tile
  uint32_t* counters;  // [CTAs without the split], zero before and after
  int warps_m_log2;    // of the CTA's warps that multiply, 2^this take different rows; the others share out K
  StreamShape stream;  // of matmul_stream.h, which needs neither partials nor counters
  WideShape wide;      // of matmul_wide.cuh, which does not either
  int wide_early;      // of its weight_stages, filled before the predecessor has ended
  FoldedNorm norm;
  NextNorm next;
  int n_cols;  // K without padding
};

}  // namespace spate::cuda
