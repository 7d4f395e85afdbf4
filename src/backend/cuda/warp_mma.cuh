// What the attention kernels use of the tensor cores and of asynchronous copies, each as one function. Fragments as PTX
// defines them for mma.m16n8k16; g is lane / 4, q is lane % 4:
//   A (16 x 16): a[0] row g, columns 2q, 2q + 1; a[1] row g + 8; a[2], a[3] the same rows, columns 2q + 8, 2q + 9
//   B (16 x 8):  b[0] rows 2q, 2q + 1 of column g; b[1] rows 2q + 8, 2q + 9
//   C (16 x 8):  c[0], c[1] row g, columns 2q, 2q + 1; c[2], c[3] row g + 8
#pragma once

#include <cstdint>
#include <cuda_fp16.h>

namespace spate::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. out[m]: of matrix m, row
// g, elements 2q and 2q + 1.
__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// The same, transposed: out[m] is of matrix m column g, rows 2q and 2q + 1.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&out)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// c += a b, 16 rows.
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c += a b, 8 rows: rows 8..15 of A are zero, and of C nobody wants them. a: what a[0] and a[2] are above.
__device__ __forceinline__ void multiply_add(float (&c)[2], const uint32_t (&a)[2], uint32_t b0, uint32_t b1) {
  [[maybe_unused]] float unused0, unused1;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %10, %10};"
      : "+f"(c[0]), "+f"(c[1]), "=f"(unused0), "=f"(unused1)
      : "r"(a[0]), "r"(0), "r"(a[1]), "r"(0), "r"(b0), "r"(b1), "f"(0.0f));
}

__device__ __forceinline__ uint32_t load_shared_32(uint32_t address) {
  uint32_t value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
__device__ __forceinline__ uint32_t load_shared_16_twice(uint32_t address) {
  uint16_t value;
  asm volatile("ld.shared.b16 %0, [%1];" : "=h"(value) : "r"(address) : "memory");
  return value * 0x10001u;
}

// 16 bytes from global to shared memory, past L1.
__device__ __forceinline__ void copy_async_16(uint32_t to_shared, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to_shared), "l"(from) : "memory");
}
// Closes the group of this thread's copies since the last call.
__device__ __forceinline__ void close_copy_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most n_open of this thread's latest groups are under way.
template <int n_open>
__device__ __forceinline__ void wait_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n_open) : "memory");
}

__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// {low, high} as two float16.
__device__ __forceinline__ uint32_t pack_half2(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

}  // namespace spate::cuda
