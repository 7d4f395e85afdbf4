// The kernel of matmul_chain.h.
#pragma once

#include "backend/cuda/matmul_chain.h"
#include "backend/cuda/matmul_stream_int8.cuh"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_BULK_COPY

struct ChainProducts {
  const ChainParams& chain;

  __device__ int n() const { return chain.n; }
  __device__ const MmaParams& operator[](int i) const { return chain.of[i]; }
};

// The barriers of the grid, by the thread of each CTA that has seen all writes of its CTA.
class GridBarriers {
 public:
  __device__ explicit GridBarriers(const ChainParams& chain) : arrivals_(chain.arrivals) {}

  // After the wait for the predecessor: the chain before this one has ended. Nobody is at a later barrier before all
  // have been at the first.
  __device__ void init() const {
    if (blockIdx.x != 0) return;
    for (int i = 1; i < kChainArrivals; ++i) arrivals_[i] = 0;
  }

  // Makes what the CTA has written visible to all, and what all have written to the CTA.
  __device__ void meet(int i) const {
    arrive_at_grid(arrivals_ + i);
    while (arrived_at_grid(arrivals_ + i) < gridDim.x) {
    }
    // Whoever is here has left the first barrier.
    if (i == 1 && blockIdx.x == 0) arrivals_[0] = 0;
  }

 private:
  uint32_t* arrivals_;
};

#endif  // SPATE_HAS_BULK_COPY

template <class Tile, class SecondTile>
__global__ void __launch_bounds__(32 * (kMaxChainWarps + kFinishers), 1)
    matmul_chain_kernel(const __grid_constant__ ChainParams chain) {
#if SPATE_HAS_BULK_COPY
  extern __shared__ __align__(128) std::byte shared[];
  release_successor();
  using Chunks = TileChunks<Tile, SecondTile>;
  const int n_warps = chain.of[0].stream.n_warps;
  // From one lane, so that the compiler knows it to be the same in the warp.
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0), finisher = warp - n_warps;
  const bool meets = threadIdx.x == 32 * n_warps;
  if (meets)
    for (int i = 0; i < chain.n; ++i) PanelSums(chain.of[i], chain.at, shared, 0, chain.places[i]).init();
  const ChainProducts products{chain};
  ChunkRing<Chunks, ChainProducts> ring(products, chain.at, shared, warp);
  wait_for_predecessor();
  const GridBarriers grid(chain);
  if (meets) grid.init();
  for (int i = 0; i < chain.n; ++i) {
    const MmaParams& p = chain.of[i];
    if (i > 0) {
      if (finisher >= 0) {
        barrier_of_finishers();
        if (meets) grid.meet(i - 1);
      }
      __syncthreads();
    }
    const TypesOfParts types(p);
    const OneTokenRows<Tile> first(shared, p);
    const OneTokenRows<SecondTile> second(shared + (types.both() ? p.n_k_tiles * kInt8TileBytes : 0), p);
    if (finisher >= 0) {
      prepare_token_factors<32>(p, 0, 1, threadIdx.x - 32 * n_warps, 32 * kFinishers);
    } else {
      prepare_types(p, types, first, second, warp, n_warps);
    }
    __syncthreads();
    const CtaSlots slots(p);
    const PanelSums panels(p, chain.at, shared, 0, chain.places[i]);
    if (finisher < 0) {
      multiply_all<Chunks>(p, slots, panels, first, second, warp, ring);
    } else {
      panels.finish_all(slots, finisher);
    }
  }
#endif
}

template <QuantType type, QuantType second = type>
cudaError_t launch_chain(const ChainParams& params, const Launch& how) {
  return launch(how, matmul_chain_kernel<typename TileFormat<type>::Packed, typename TileFormat<second>::Packed>,
                params);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
