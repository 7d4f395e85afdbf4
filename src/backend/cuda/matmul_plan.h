// How a product of some tokens is cut up into CTAs. Host arithmetic alone, tested without a GPU.
#pragma once

#include <cstdint>

#include "backend/cuda/cluster_room.h"
#include "backend/cuda/device_profile.h"
#include "backend/cuda/matmul_kernels.h"

namespace spate::cuda {

struct MmaShape {
  int n_tokens;
  int n_slots;    // panels of 16 rows over all parts
  int n_k_tiles;  // of 256 columns
  bool swiglu;
};

// What CTAs that share K need in memory.
struct MmaMemory {
  int64_t partial_elems;
  int n_counters;
};

struct MmaPlan {
  MmaTier tier;
  int warps_m_log2;  // of 8 warps
  int slot_groups, token_groups, split_k;
  int shared_bytes;

  int counters() const { return split_k == 1 ? 0 : slot_groups * token_groups; }
  int64_t partial_elems() const;
};

// memory: what there is. The plan needs no more of it, and no more shared memory than a CTA of the device may have.
MmaPlan plan_mma(const MmaShape& shape, const MmaMemory& memory, const DeviceProfile& profile);

// A product by matmul_stream.h. n_ctas 0: not by it; its activations leave no room for weights, say.
struct StreamPlan {
  StreamShape shape;
  int n_ctas;  // of all clusters
  int shared_bytes;
};

// tile_bytes: the largest of its types, one or two. room: what clusters the device runs, where profile.stream_k_split
// asks for them.
StreamPlan plan_stream(const MmaShape& shape, int tile_bytes, bool two_types, const ClusterRoom& room,
                       const DeviceProfile& profile);

// The same of matmul_stream_int8.h.
StreamPlan plan_stream_int8(const MmaShape& shape, int tile_bytes, bool two_types, const DeviceProfile& profile);

// What a product by matmul_wide.cuh is of, besides its shape.
struct WideTypes {
  int first_slots;  // panels of the first type; all of them where it is the only one
  int tile_bytes;   // of the larger tiles
};

// A product by matmul_wide.cuh. tokens 0: not by it; no stages of its rings fit into shared memory.
struct WidePlan {
  int tokens = 0;  // of a CTA: 16, 32, 64 or 128; of two types 32 or 64
  int warps_m_log2 = 0;
  int slot_groups = 0, token_groups = 0;
  int cluster = 0;  // CTAs that share K
  WideShape shape;
  int early_stages = 0;  // of its weight_stages, filled before the predecessor has ended
  int shared_bytes = 0;
};

// room: what clusters the device runs.
WidePlan plan_wide(const MmaShape& shape, const WideTypes& types, const ClusterRoom& room,
                   const DeviceProfile& profile);

// Enough for every plan of products of up to max_slots panels.
MmaMemory mma_memory(int max_slots, const DeviceProfile& profile);

}  // namespace spate::cuda
