// Long prefill in FP8, opt-in (DeviceProfile::prefill_fp8): a matrix is decoded to E4M3 instead of float16, activations
// are quantised to E4M3 a token at a time, and cuBLASLt multiplies them with twice the rate of float16.
//
// Scales are powers of two, one a matrix, measured at load, and one a token, found in each step (e4m3.h says why no
// more are needed). cuBLASLt takes one scale for all tokens on every device that has E4M3, and vectors of them on
// capability 9.0 alone, and there not for every shape; so the tokens' factors are multiplied in by what reads the
// product anyway: RoPE's input, the residual's addition, SwiGLU. The product is left in bfloat16: its rounding, 2^-8 of
// the result, is nothing beside that of E4M3, and it halves what these kernels read.
#pragma once

#include <array>
#include <span>

#include "backend/cuda/matmul.h"

namespace spate::cuda {

// Parts [first, end) of a product, decoded to weight * 2^log2 and multiplied as one matrix.
struct Fp8Group {
  int first, end;
  int n_rows;
  int log2;
};
struct Fp8Groups {
  std::array<Fp8Group, 3> group;
  int n = 0;
};

// Neighbours of nearly the same scale are one matrix, on the smallest of their scales: three products for queries, keys
// and values leave much of the device idle. parts: with scales that were measured.
Fp8Groups group_parts(std::span<const PackedMatrix> parts);

// Of Fp8Workspace::x, for steps of up to max_tokens and matrices of up to max_cols.
int64_t fp8_x_bytes(int max_tokens, int max_cols);

// Whether multiply_fp8() has what the product needs: its memory, measured scales, rows in sixteens.
bool can_multiply_fp8(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace);

// Launches the product, as matmul().
void multiply_fp8(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace, const DeviceProfile& profile,
                  cudaStream_t stream);

// Sets fp8_log2 of the matrices, from their largest weights; those that long prefill does not decode are left out.
// Waits for the device.
void measure_fp8_scales(std::span<PackedMatrix* const> matrices, const MatmulWorkspace& workspace, cudaStream_t stream);

}  // namespace spate::cuda
