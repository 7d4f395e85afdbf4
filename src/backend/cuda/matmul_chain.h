// Products of one token that follow one another without another kernel between them, in one kernel: a layer's attention
// output, gate and up, down, and the next layer's queries, keys and values. The same arithmetic as matmul_stream_int8.h
// by CTAs that stay, one an SM, and whose rings run on from one product into the next: memory is read without a pause
// while the sums of one product become the activations of the next.
//
// Between two products all CTAs meet at a barrier of the grid, so all of them have to be resident at once: no more than
// one an SM, and nothing else that waits for them on the device.
#pragma once

#include <span>

#include "backend/cuda/matmul_stream_int8.h"

namespace spate::cuda {

inline constexpr int kMaxChain = kChainArrivals + 1;

// Warps of a CTA that multiply, at most: 112 registers each.
inline constexpr int kMaxChainWarps = 16;

struct ChainParams {
  MmaParams of[kMaxChain];  // their StreamShapes have as many warps and stages
  int n;
  StreamLayout at;        // of all
  int places[kMaxChain];  // where the barriers of a product's places lie in shared memory
  // [kChainArrivals] of CTAs at the barrier behind each product but the last: the first 0 before and after, the others
  // anything.
  uint32_t* arrivals;
};

struct ChainPlan {
  StreamShape shapes[kMaxChain];
  StreamLayout at;
  int places[kMaxChain];
  int n_ctas;  // 0: not as a chain
};

// What a product of a chain is of.
struct ChainLink {
  int n_slots, n_k_tiles;
  bool swiglu, two_types;
};

// tile_bytes: of the chain's larger type.
ChainPlan plan_chain(std::span<const ChainLink> links, int tile_bytes, const DeviceProfile& profile);

// Chains over parts of these two types, in this order (MatmulPart::second), or of one. Null: there is no such kernel.
using ChainKernel = cudaError_t (*)(const ChainParams& params, const Launch& how);
ChainKernel chain_kernel(QuantType first, QuantType second);

}  // namespace spate::cuda
