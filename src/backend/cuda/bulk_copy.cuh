// Bulk copies from global to shared memory and the barriers that tell of their arrival (PTX: cp.async.bulk, mbarrier;
// compute capability 9.0). Addresses are shared-space addresses; a barrier is 8 bytes, aligned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spate::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SPATE_HAS_BULK_COPY 1
#else
#define SPATE_HAS_BULK_COPY 0
#endif

#if SPATE_HAS_BULK_COPY

// True in one lane of a warp of which all are here, which the compiler then knows to be one: of a lane picked by number
// it does not, and has a copy started in a loop over all that might be.
__device__ __forceinline__ bool elect_lane() {
  uint32_t elected;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p;}" : "=r"(elected));
  return elected != 0;
}

// A phase of the barrier ends when n_arrivals threads have arrived and all bytes announced have come.
__device__ __forceinline__ void barrier_init(uint32_t barrier, int n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(n_arrivals) : "memory");
}

// Makes initialised barriers visible to the unit that carries out bulk copies.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Blocks until the phase of this parity has ended; the phases of a fresh barrier are 0, 1, 0, ..., and the one "before
// the first", of parity 1, has.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// As __syncthreads(), of those n_threads of the CTA, whole warps, that name the barrier: 1 to 15.
__device__ __forceinline__ void sync_some(int barrier, int n_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
}

// A word of shared memory with which threads of a CTA hand over what else they wrote there.
__device__ __forceinline__ void store_release(uint32_t address, uint32_t value) {
  asm volatile("st.release.cta.shared::cta.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
__device__ __forceinline__ uint32_t load_acquire(uint32_t address) {
  uint32_t value;
  asm volatile("ld.acquire.cta.shared::cta.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

// One thread: arrives at the barrier, which then waits for n_bytes besides.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, int n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(n_bytes) : "memory");
}

// One thread: arrives at the barrier and lets n_bytes (a multiple of 16; both addresses too) come by themselves.
__device__ __forceinline__ void copy_bulk(uint32_t to_shared, const std::byte* from, int n_bytes, uint32_t barrier) {
  barrier_expect(barrier, n_bytes);
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to_shared),
      "l"(from), "r"(n_bytes), "r"(barrier)
      : "memory");
}

// One thread: has a tensor's map come before the first copy by it needs it.
__device__ __forceinline__ void prefetch_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// One thread: a box of a tensor from column `column` and row `row` on, as its map says, by itself; its bytes count at
// the barrier. map: in constant or parameter space, 64-byte aligned.
__device__ __forceinline__ void copy_box(uint32_t to_shared, const void* map, int column, int row, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          to_shared),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

#endif  // SPATE_HAS_BULK_COPY

}  // namespace spate::cuda
