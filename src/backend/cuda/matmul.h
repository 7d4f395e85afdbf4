// Matrix products over quantised weights on the GPU: y[t, r] = sum_k x[t, k] w[r, k]. One entry, matmul(), which looks
// up the kernel by the number of tokens in one table (matmul_dispatch.cc); every quant type has every tier.
//
// Weights are re-laid once at load into tiles (tile_codes.h): the same bytes in another order, one copy for all tiers.
// They are decoded to float16 in registers, times a power of two per matrix that keeps them in float16's range, and one
// per row where rows are of very different size; products are accumulated in float32.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector>

#include "backend/cuda/activations.h"
#include "backend/cuda/device_profile.h"
#include "backend/cuda/norm_fold.h"
#include "quant/quant_type.h"

namespace spate::cuda {

// A matrix [n_rows, n_cols] in tiles, on the device. F32 and BF16 matrices become float16 (scaled; BF16 loses nothing
// that is over 2^-38 of the matrix's largest element).
struct PackedMatrix {
  const std::byte* tiles = nullptr;
  QuantType type{};
  int n_rows = 0;
  int n_cols = 0;
  int scale_log2 = 0;  // tiles decode to weight * 2^scale_log2, those of row r over row_factors[r] besides
  const float* row_factors = nullptr;  // [n_rows in whole panels] powers of two, at most 1; null: all are 1
  static constexpr int kFp8NotMeasured = -100;
  int fp8_log2 = kFp8NotMeasured;  // what decode() gives, times 2^fp8_log2, fits E4M3 (gemm_fp8.h)

  // A matrix decoded to memory has one scale: its rows are multiplied by their factors and by 2^kRowLiftLog2, which
  // keeps small ones from float16's lower end, and so hold weight * 2^decoded_log2().
  static constexpr int kRowLiftLog2 = 15;
  int decoded_log2() const { return scale_log2 + (row_factors == nullptr ? 0 : kRowLiftLog2); }
};

// The powers of two of a matrix, on the host.
struct MatrixScale {
  int log2 = 0;                    // PackedMatrix::scale_log2
  std::vector<float> row_factors;  // PackedMatrix::row_factors; empty: all are 1
};

// The powers of two for a matrix: its decoded weights stay away from both ends of float16. `raw`: all rows, host
// memory. Reads the qblocks' scales alone.
MatrixScale choose_scale(QuantType type, const std::byte* raw, int64_t n_rows, int64_t n_cols);

// Bytes of a matrix on the device: a whole number of 16-row panels of 256-column tiles, behind them, but for float
// types, room for row factors. A multiple of 256.
int64_t packed_bytes(QuantType type, int64_t n_rows, int64_t n_cols);

// Sets the matrix's scale; row factors go behind its tiles. `scale` is read until the stream has come that far.
void set_scale(const MatrixScale& scale, PackedMatrix& matrix, std::byte* tiles, cudaStream_t stream);

// Re-lays rows [first_row, first_row + n_rows) of a matrix from the file's qblocks `raw` (on the device, first_row's
// first byte) into `tiles` (of the whole matrix, on the device). first_row is a multiple of 16; so is n_rows, except at
// the matrix's end, whose panel is padded with zeros. The matrix's scale is set.
void pack_rows(const void* raw, int first_row, int n_rows, const PackedMatrix& matrix, std::byte* tiles,
               cudaStream_t stream);

enum class Epilogue {
  kStore,   // y = product
  kAdd,     // y += product (the residual stream)
  kSwiGlu,  // parts 0 and 1 are gate and up: ff = silu(gate x) * (up x) * kFfScale, as activations
};

struct MatmulArgs {
  const __half* x = nullptr;  // [T, padded_cols(n_cols)], permuted (activations.h)
  float x_scale = 1;          // x holds the activations times 1 / x_scale
  // Matrices over the same x; their outputs lie side by side in y.
  PackedMatrix parts[3] = {};
  int n_parts = 0;
  Epilogue epilogue = Epilogue::kStore;
  float* y = nullptr;    // [T, y_stride]: kStore, kAdd
  int64_t y_stride = 0;  // >= the sum of the parts' rows
  __half* ff = nullptr;  // [T, padded_cols(parts[0].n_rows)], permuted: kSwiGlu
  FoldedNorm norm = {};  // of x
  NextNorm next = {};    // of y, the whole of one part: kAdd
};

// Whether a product of so many tokens can have a folded norm before or behind it: not on the way through cuBLASLt.
inline bool can_fold_norm(int n_tokens, const DeviceProfile& profile) {
  const int most = profile.takes_wide(n_tokens) ? profile.wide_norm_tokens : profile.fused_norm_tokens;
  return n_tokens <= most && n_tokens < profile.gemm_min_tokens;
}
// As many tokens at most.
inline int max_folded_tokens(const DeviceProfile& profile) {
  return profile.wide_min_tokens > 0 ? std::max(profile.fused_norm_tokens, profile.wide_norm_tokens)
                                     : profile.fused_norm_tokens;
}

class Gemm;

// What products in FP8 need besides (gemm_fp8.h).
struct Fp8Workspace {
  std::byte* x = nullptr;  // [x_bytes] a step's activations in E4M3; null: long prefill is in float16
  int64_t x_bytes = 0;
  float* factors = nullptr;  // [max_tokens] by which a token's E4M3 are multiplied
  int max_tokens = 0;
};

// Memory that products share; one per stream.
struct MatmulWorkspace {
  float* partials = nullptr;  // [partial_elems] sums of CTAs that share K
  int64_t partial_elems = 0;
  uint32_t* counters = nullptr;  // [n_counters] zero between products
  int n_counters = 0;
  float* gate_up = nullptr;  // [gate_up_elems] gate and up of a SwiGLU that is not fused; products in FP8
  int64_t gate_up_elems = 0;
  // [decoded_elems] a decoded matrix, or gate and up, for long prefill; a larger one takes the other way.
  __half* decoded = nullptr;
  int64_t decoded_elems = 0;
  std::byte* gemm_scratch = nullptr;  // [gemm_scratch_bytes] cuBLASLt's own
  const Gemm* gemm = nullptr;         // null: this machine has no cuBLASLt, and long prefill runs as short prefill does
  Fp8Workspace fp8 = {};
};

// What the products of a model ask of MatmulWorkspace.
struct MatmulDemand {
  int max_tokens = 0;  // of a step
  // Of the largest matrix that long prefill decodes, or of gate and up together: padded_cols of both sides.
  int64_t decoded_elems = 0;
  int max_slots = 0;  // panels of 16 rows of the widest product, the LM head included
  int d_ff = 0;
  int max_cols = 0;  // of the matrices that long prefill decodes
};
struct MatmulWorkspaceSize {
  int64_t partial_elems, gate_up_elems, decoded_elems, gemm_scratch_bytes;
  int n_counters;
  int64_t fp8_x_bytes;
  int fp8_tokens;
};
MatmulWorkspaceSize matmul_workspace_size(const MatmulDemand& demand, const DeviceProfile& profile);

// Launches the product for n_tokens rows of x. May be captured into a graph; allocates nothing.
void matmul(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace, const DeviceProfile& profile,
            cudaStream_t stream);

}  // namespace spate::cuda
