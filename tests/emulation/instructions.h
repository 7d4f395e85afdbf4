// What PTX instructions become: patch_sources.py puts a call of one of these functions in the place of each asm
// statement. They do what the PTX ISA manual (8.5) says of the instruction that they are named after, for the thread
// that runs, and end the program with a line on stderr where the manual calls the use undefined.
//
// Shared addresses are 32 bits: an offset in the CTA's window of shared memory, and in the upper byte, for addresses in
// the cluster's window (mapa), the CTA's rank plus one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

namespace emu {

int lane();
[[noreturn]] void trap();

// What each lane of a warp brings to a collective operation, by lane; entries outside of the mask are not to be read.
using Lanes = void* const*;
// All lanes of `mask` come here; the last one runs fn on what they brought, then all go on. Lanes of one mask that
// bring different fn are an error.
void collective(uint32_t mask, const char* what, void (*fn)(Lanes lanes, uint32_t mask), void* mine);
void bar_sync(int id, int n_threads);  // n_threads 0: all of the CTA

// --- shared memory
void* shared_dynamic();
size_t take_static(size_t n_bytes, size_t alignment);
void* static_at(size_t offset);
uint32_t address_of(const void* pointer);
void* pointer_of(uint32_t address, size_t n_bytes, size_t alignment);

// A static __shared__ variable: one object for the program, a place in every CTA.
template <typename T>
struct Static {
  size_t offset = take_static(sizeof(T), alignof(T) > 16 ? alignof(T) : 16);
  T& get() { return *static_cast<T*>(static_at(offset)); }
};

template <typename T>
T load(uint32_t address) {
  T v;
  std::memcpy(&v, pointer_of(address, sizeof v, alignof(T)), sizeof v);
  return v;
}
template <typename T>
void store(uint32_t address, T v) {
  std::memcpy(pointer_of(address, sizeof v, alignof(T)), &v, sizeof v);
}
void store_release(uint32_t address, uint32_t value);
uint32_t load_acquire(uint32_t address);

// --- mbarriers
void mbarrier_init(uint32_t barrier, uint32_t n_arrivals);
void mbarrier_arrive(uint32_t barrier);
void mbarrier_expect(uint32_t barrier, uint32_t n_bytes);
void mbarrier_wait(uint32_t barrier, uint32_t parity);

// --- asynchronous copies
void bulk_copy(uint32_t to, const void* from, uint32_t n_bytes, uint32_t barrier);
void tensor_copy(uint32_t to, const void* map, int column, int row, uint32_t barrier);
void store_async(uint32_t to, float value, uint32_t barrier);
void copy_async_16(uint32_t to, const void* from);
void copy_async_commit();
void copy_async_wait(int n_open);

// --- tensor cores
void ldmatrix_x4(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t address, bool transposed);
void mma_f16(float& d0, float& d1, float& d2, float& d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
             uint32_t b0, uint32_t b1, float c0, float c1, float c2, float c3);
void mma_s8(bool a_unsigned, int& d0, int& d1, int& d2, int& d3, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
            uint32_t b0, uint32_t b1, int c0, int c1, int c2, int c3);
// sums: [n_octets][4], the accumulators of the lane; b: descriptor of [8 n_octets, 16] float16 in shared memory.
void wgmma(float* sums, int n_octets, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add);
template <size_t n>
void wgmma(float (&sums)[n][4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint64_t b, bool add = true) {
  wgmma(&sums[0][0], n, a0, a1, a2, a3, b, add);
}
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int n_open);

// --- clusters, and the rest
uint32_t cluster_ctarank();
void cluster_arrive();
void cluster_wait();
uint32_t mapa(uint32_t address, uint32_t rank);
uint32_t elect();
void setmaxnreg(int n);
void griddepcontrol_wait();
void griddepcontrol_launch();

inline uint16_t to_e4m3x2(uint32_t halves) {
  __half2_raw raw;
  std::memcpy(&raw, &halves, sizeof raw);
  return __nv_cvt_halfraw2_to_fp8x2(raw, __NV_SATFINITE, __NV_E4M3);
}
inline uint32_t pack_f16x2(float high, float low) {
  const __half h = __float2half_rn(high), l = __float2half_rn(low);
  uint16_t h_bits, l_bits;
  std::memcpy(&h_bits, &h, 2);
  std::memcpy(&l_bits, &l, 2);
  return static_cast<uint32_t>(h_bits) << 16 | l_bits;
}

}  // namespace emu
