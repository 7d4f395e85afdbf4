// Maps with which tensor copies find activations (CUDA driver API: cuTensorMapEncodeTiled; compute capability 9.0).
#pragma once

#include <cuda.h>
#include <cuda_fp16.h>

namespace spate::cuda {

// Of x[n_tokens, n_cols], rows without gaps: boxes of box_tokens (at most 256) by 64 columns, a box's rows of 128 bytes
// with their 16-byte chunks XORed with row & 7. Tokens of a box past the last are zeros. x: 16-byte aligned; n_cols a
// multiple of 8. A CUDA fault throws, as everywhere.
CUtensorMap map_activations(const __half* x, int n_tokens, int n_cols, int box_tokens);

}  // namespace spate::cuda
