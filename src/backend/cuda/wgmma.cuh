// Products by a warpgroup on the tensor cores (PTX: wgmma, compute capability 9.0a), with A in registers and B in
// shared memory. They run asynchronously: between start_products() and the wait for their group neither their sums nor
// their A registers may be touched.
//
// Of a warpgroup's 64 rows warp w has rows 16 w .. 16 w + 15; its fragments of A and of the sums are those of
// mma.m16n8k16, with n in octets (matmul_epilogue.cuh's Sums).
#pragma once

#include <cstdint>

namespace spate::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SPATE_HAS_WGMMA 1
#else
#define SPATE_HAS_WGMMA 0
#endif

#if SPATE_HAS_WGMMA

// A warpgroup's registers a thread from here on, fewer or more than the kernel was compiled for; the sum over the CTA's
// warpgroups must not grow. Multiples of 8.
template <int n>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

// Describes B[n x 64] in shared memory: n rows (a multiple of 8) of 64 float16 each, 128 bytes apart, their 16-byte
// chunks XORed with row & 7, from a multiple of 1024 on; octets of rows are 1024 bytes apart. A part of the low word is
// the address over 16, so two more are the next 16 columns of K, and 64 bits are added to in one instruction.
__device__ __forceinline__ uint64_t describe_b(uint32_t address) {
  constexpr uint32_t kUnused = 1 << 16;  // the leading dimension's stride, of layouts without this swizzle
  constexpr uint64_t kSwizzled = 0x40000040;
  return kSwizzled << 32 | kUnused | (address >> 4 & 0x3fff);
}
inline constexpr int kDescribed16Columns = 2;

// Orders what was written to registers before the products that read them.
__device__ __forceinline__ void start_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Closes the group of products since the last call.
__device__ __forceinline__ void close_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most n_open of the latest groups are under way.
template <int n_open>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n_open) : "memory");
}

// sums[64 x 8 kOctets] += a[64 x 16] b[16 x 8 kOctets]
#define SPATE_SUM(o) "+f"(sums[o][0]), "+f"(sums[o][1]), "+f"(sums[o][2]), "+f"(sums[o][3])
#define SPATE_SUMS4(o) SPATE_SUM(o), SPATE_SUM(o + 1), SPATE_SUM(o + 2), SPATE_SUM(o + 3)

__device__ __forceinline__ void multiply_async(float (&sums)[2][4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, "
      "1, 1, 1, 0;"
      : SPATE_SUM(0), SPATE_SUM(1)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

__device__ __forceinline__ void multiply_async(float (&sums)[4][4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, "
      "%14, %15}, {%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
      : SPATE_SUMS4(0)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

__device__ __forceinline__ void multiply_async(float (&sums)[8][4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, "
      "%14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, "
      "%35}, %36, 1, 1, 1, 0;"
      : SPATE_SUMS4(0), SPATE_SUMS4(4)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

__device__ __forceinline__ void multiply_async(float (&sums)[16][4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                               uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, "
      "%13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, "
      "%35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, "
      "%57, %58, %59, %60, %61, %62, %63}, {%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
      : SPATE_SUMS4(0), SPATE_SUMS4(4), SPATE_SUMS4(8), SPATE_SUMS4(12)
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

#undef SPATE_SUMS4
#undef SPATE_SUM

#endif  // SPATE_HAS_WGMMA

}  // namespace spate::cuda
