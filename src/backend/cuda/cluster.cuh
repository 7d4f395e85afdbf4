// Clusters of CTAs (PTX: barrier.cluster, distributed shared memory; compute capability 9.0). A kernel that was
// launched without the attribute runs in clusters of one.
#pragma once

#include <cstdint>

#include "backend/cuda/bulk_copy.cuh"

namespace spate::cuda {

#if SPATE_HAS_BULK_COPY

// Of the CTA in its cluster.
__device__ __forceinline__ int cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// All threads of all CTAs of the cluster arrive, then wait; what they wrote to shared memory before is there for all.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// The address at which CTA `rank` of the cluster has what this one has at `address` of its shared memory.
__device__ __forceinline__ uint32_t cluster_address(uint32_t address, int rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}
__device__ __forceinline__ float load_cluster(uint32_t address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}
__device__ __forceinline__ float4 load_cluster_4(uint32_t address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// Writes a word into the shared memory of a CTA of the cluster by itself; its four bytes count at a barrier there when
// they have come. Both addresses: as cluster_address() gives them.
__device__ __forceinline__ void store_async(uint32_t to, float value, uint32_t barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(to), "f"(value),
               "r"(barrier)
               : "memory");
}

// As barrier_wait(), of a barrier at which such words count.
__device__ __forceinline__ void barrier_wait_cluster(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A word of shared memory with which a CTA hands over places there to the others of its cluster, and how these read it.
__device__ __forceinline__ void store_release_cluster(uint32_t address, uint32_t value) {
  asm volatile("st.release.cluster.shared::cta.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
__device__ __forceinline__ uint32_t load_acquire_cluster(uint32_t address) {
  uint32_t value;
  asm volatile("ld.acquire.cluster.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

// Puts what this thread has written to shared memory before bulk copies that come after.
__device__ __forceinline__ void fence_before_bulk_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#endif  // SPATE_HAS_BULK_COPY

}  // namespace spate::cuda
