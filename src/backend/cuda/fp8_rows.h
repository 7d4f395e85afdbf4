// What surrounds products of E4M3 rows: quantising activations, and what becomes of the products (gemm_fp8.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/launch.h"

namespace spate::cuda {

// out[t] = E4M3 of x[t] / factor[t], where factor[t] is the power of two with which the row's largest magnitude just
// fits (e4m3_scale_log2). x[n_tokens, n_cols], n_cols a multiple of 256; factor[n_tokens].
cudaError_t launch_quantise_rows(const __half* x, int n_tokens, int n_cols, std::byte* out, float* factor,
                                 const Launch& how);

// Raises *largest to the greatest magnitude in values[n_elems], as the bits of a float16. n_elems: a multiple of 8.
cudaError_t launch_largest_magnitude(const __half* values, int64_t n_elems, uint32_t* largest, const Launch& how);

// Products of rows that were quantised: product[n_tokens, n_rows], each row without its token's factor.
struct Fp8Product {
  const __nv_bfloat16* product;
  const float* factor;  // [n_tokens]
  int n_tokens;
  int n_rows;  // a multiple of 16
};

// y[t, r] = factor[t] * product[t, r], or that added to it. y: 16-byte aligned; y_stride: a multiple of 4.
cudaError_t launch_scale_rows(const Fp8Product& of, bool add, float* y, int64_t y_stride, const Launch& how);

// ff[t, r] = silu(gate) * up * kFfScale, permuted (activations.h), of products [n_tokens, gate and up side by side].
// ff_stride: padded_cols(n_rows / 2).
cudaError_t launch_swiglu_rows(const Fp8Product& of, __half* ff, int64_t ff_stride, const Launch& how);

}  // namespace spate::cuda
