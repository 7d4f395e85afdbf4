// What linear.cc and linear_by_tiles.cc share: the kernels of an instruction set, and how products of many tokens are
// cut into calls of its tile kernels.
#pragma once

#include "backend/cpu/linear.h"
#include "backend/cpu/linear_kernels.h"
#include "backend/cpu/linear_tiles.h"

namespace spate::cpu {

const LinearKernels& linear_kernels(Isa isa);

// Bytes of the tiles of n_tokens x n_cols activations, n_cols a multiple of kTileColumns.
int64_t token_tiles_bytes(int64_t n_tokens, int64_t n_cols);

// x[n_tokens, n_cols] as tiles, written to tiles[token_tiles_bytes()].
TokenTiles pack_tokens(ThreadPool& pool, const TileKernels& kernels, const float* x, int n_tokens, int n_cols,
                       uint16_t* tiles);

// Panels that a thread should take at a time.
int64_t panels_of_tile_chunk(int64_t n_panels, int n_threads);

// Panels [begin, end) of a job.
void run_panels_by_tiles(TileKernel kernel, const LinearJob& job, int64_t begin, int64_t end);

}  // namespace spate::cpu
