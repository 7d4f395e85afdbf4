// What each quant type brings to matmul(): its kernels, behind host functions (a kernel is instantiated and launched in
// one translation unit, matmul_*.cu).
#pragma once

#include <cuda.h>

#include "backend/cuda/half2_bits.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

// The shapes of matmul_few.cuh (up to 8 tokens) and matmul_mma.cuh, by the tokens that a CTA takes at once. Those of
// more than 8 are for devices without wgmma alone, where matmul_wide.cuh does not take their products.
enum class MmaTier { k8Tokens, k16Tokens, k32Tokens, k64Tokens };

struct MmaTierShape {
  int tokens;    // 8 per octet
  int n_panels;  // of 16 rows a warp
  int n_stages;  // of the ring of activations; those of up to 8 tokens are there as a whole
};
constexpr MmaTierShape tier_shape(MmaTier tier) {
  switch (tier) {
    case MmaTier::k8Tokens:
      return {8, 1, 1};
    case MmaTier::k16Tokens:
      return {16, 1, 3};
    case MmaTier::k32Tokens:
      return {32, 1, 3};
    case MmaTier::k64Tokens:
      break;
  }
  return {64, 2, 2};
}

struct TypeKernels {
  int tile_bytes;
  cudaError_t (*mma)(MmaTier tier, const MmaParams& params, const Launch& how);
  // By matmul_wide.cuh, n_tokens (16, 32, 64 or 128) a CTA; x: as map_activations() maps params.x with boxes of so
  // many.
  cudaError_t (*wide)(int n_tokens, const MmaParams& params, const CUtensorMap& x, const Launch& how);
  // Decodes panels [first_panel, first_panel + n_panels) to out[16 n_panels, 256 n_k_tiles], columns in the
  // activations' order (k_position): weights times 2^PackedMatrix::decoded_log2(). row_factors: the matrix's.
  cudaError_t (*decode)(const std::byte* tiles, const float* row_factors, int first_panel, int n_panels, int n_k_tiles,
                        __half* out, const Launch& how);
  // The same of panels [0, n_panels) to E4M3, each weight multiplied by the float16 in both halves of `power`.
  cudaError_t (*decode_e4m3)(const std::byte* tiles, const float* row_factors, int n_panels, int n_k_tiles,
                             Half2Bits power, std::byte* out, const Launch& how);
  // Re-lays as pack_rows(); row_factors: of raw's first row on, or null.
  cudaError_t (*pack)(const std::byte* raw, int64_t row_bytes, int n_rows, int n_cols, float power,
                      const float* row_factors, std::byte* tiles, const Launch& how);
};

// The kernels of a type; F32 and BF16 matrices differ from F16 in pack alone.
const TypeKernels& type_kernels(QuantType type);

// Runs products of up to 8 tokens over parts of two types (MatmulPart::second tells which); null for a pair that has no
// kernel of its own, whose parts are launched one after the other. The pairs are those that the ecosystem's mixes put
// side by side.
using PairKernel = cudaError_t (*)(const MmaParams& params, const Launch& how);
PairKernel pair_kernel(QuantType first, QuantType second);
// The same for up to kWidePairTokens tokens by matmul_wide.cuh, 32 or 64 a CTA; there are kernels of the same pairs.
using WidePairKernel = cudaError_t (*)(int n_tokens, const MmaParams& params, const CUtensorMap& x, const Launch& how);
WidePairKernel wide_pair_kernel(QuantType first, QuantType second);

template <QuantType>
TypeKernels make_type_kernels();  // defined and instantiated in matmul_*.cu

}  // namespace spate::cuda
