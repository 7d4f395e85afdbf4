#include <algorithm>

#include "backend/cuda/activations.h"
#include "backend/cuda/e4m3.h"
#include "backend/cuda/fp8_rows.h"

namespace spate::cuda {

namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ uint32_t larger_magnitude(Half2Bits pair, uint32_t than) {
  return max(than, max(pair & 0x7fff, pair >> 16 & 0x7fff));
}
__device__ __forceinline__ uint32_t larger_magnitude(const uint4& halves, uint32_t than) {
  return larger_magnitude(halves.x,
                          larger_magnitude(halves.y, larger_magnitude(halves.z, larger_magnitude(halves.w, than))));
}

// Of all lanes, in all lanes. Magnitudes of float16 order as their bits.
__device__ __forceinline__ uint32_t warp_max(uint32_t value) {
  for (int step = 16; step > 0; step /= 2) value = max(value, __shfl_xor_sync(0xffffffff, value, step));
  return value;
}

// A CTA a token, which reads its row twice: the second time it comes from a cache.
__global__ void __launch_bounds__(kThreads)
    quantise_rows_kernel(const uint4* x, int row_chunks, uint2* out, float* factor) {
  release_successor();
  wait_for_predecessor();
  __shared__ uint32_t largest_of_warp[kThreads / 32];
  const uint4* row = x + int64_t{blockIdx.x} * row_chunks;
  uint32_t largest = 0;
  for (int i = threadIdx.x; i < row_chunks; i += kThreads) largest = larger_magnitude(row[i], largest);
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) largest_of_warp[threadIdx.x / 32] = largest;
  __syncthreads();
  for (const uint32_t other : largest_of_warp) largest = max(largest, other);

  const int log2 = e4m3_scale_log2(largest);
  const Half2Bits power = half2_power(log2);
  if (threadIdx.x == 0) factor[blockIdx.x] = __int_as_float((127 - log2) << 23);
  uint2* quantised = out + int64_t{blockIdx.x} * row_chunks;
  for (int i = threadIdx.x; i < row_chunks; i += kThreads) {
    const uint4 halves = row[i];
    quantised[i] = make_uint2(to_e4m3(halves.x, halves.y, power), to_e4m3(halves.z, halves.w, power));
  }
}

__global__ void __launch_bounds__(kThreads)
    largest_magnitude_kernel(const uint4* values, int64_t n_chunks, uint32_t* result) {
  release_successor();
  wait_for_predecessor();
  uint32_t largest = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n_chunks; i += int64_t{gridDim.x} * kThreads)
    largest = larger_magnitude(values[i], largest);
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) atomicMax(result, largest);
}

__device__ __forceinline__ float2 unpack(uint32_t bf16_pair) {
  return make_float2(__uint_as_float(bf16_pair << 16), __uint_as_float(bf16_pair & 0xffff0000));
}

// A thread eight neighbouring columns of a token.
template <bool kAdd>
__global__ void __launch_bounds__(kThreads) scale_rows_kernel(const uint4* product, const float* factor, int row_chunks,
                                                              int64_t n_chunks, float* y, int64_t y_stride) {
  release_successor();
  wait_for_predecessor();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n_chunks) return;
  const int64_t token = i / row_chunks;
  const float scale = factor[token];
  const uint4 columns = product[i];
  auto* to = reinterpret_cast<float4*>(y + token * y_stride + i % row_chunks * 8);
  const auto store = [&](float4* at, float2 a, float2 b) {
    const float4 before = kAdd ? *at : make_float4(0, 0, 0, 0);
    *at = make_float4(before.x + scale * a.x, before.y + scale * a.y, before.z + scale * b.x, before.w + scale * b.y);
  };
  store(to, unpack(columns.x), unpack(columns.y));
  store(to + 1, unpack(columns.z), unpack(columns.w));
}

// A thread the 16 bytes of memory that hold, of each quarter of 128 columns, the same pair (k_position): neighbours
// read side by side, and write side by side. product[.., 2 d_ff].
__global__ void __launch_bounds__(kThreads)
    swiglu_rows_kernel(const uint32_t* product, const float* factor, int d_ff, int row_chunks, int64_t n_chunks,
                       __half* ff, int64_t ff_stride) {
  release_successor();
  wait_for_predecessor();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n_chunks) return;
  const int64_t token = i / row_chunks;
  const int chunk = static_cast<int>(i % row_chunks), first_column = chunk / 16 * 128 + chunk % 16 * 2;
  const float scale = factor[token];
  const uint32_t* gate = product + token * d_ff;  // pairs, so half of 2 d_ff
  const uint32_t* up = gate + d_ff / 2;
  const auto silu_times = [&](float g, float u) {
    g *= scale;
    return g / (1.0f + __expf(-g)) * (u * scale) * kFfScale;
  };
  alignas(16) __half2 out[4];
  for (int quarter = 0; quarter < 4; ++quarter) {
    const int column = first_column + 32 * quarter;
    const bool exists = column < d_ff;  // what pads the row is zero, and is written so again
    const float2 g = unpack(exists ? gate[column / 2] : 0), u = unpack(exists ? up[column / 2] : 0);
    out[quarter] = __floats2half2_rn(silu_times(g.x, u.x), silu_times(g.y, u.y));
  }
  static_assert(k_position(2) == 8 && k_position(4) == 16 && k_position(32) == 2, "chunk i holds columns 2 i, 2 i + 1");
  *reinterpret_cast<uint4*>(ff + token * ff_stride + chunk * 8) = *reinterpret_cast<const uint4*>(out);
}

Launch sized(const Launch& how, int64_t n_threads) {
  Launch result = how;
  result.grid = dim3(static_cast<unsigned>((n_threads + kThreads - 1) / kThreads));
  result.block = dim3(kThreads);
  return result;
}

}  // namespace

cudaError_t launch_quantise_rows(const __half* x, int n_tokens, int n_cols, std::byte* out, float* factor,
                                 const Launch& how) {
  return launch(sized(how, int64_t{n_tokens} * kThreads), quantise_rows_kernel, reinterpret_cast<const uint4*>(x),
                n_cols / 8, reinterpret_cast<uint2*>(out), factor);
}

cudaError_t launch_largest_magnitude(const __half* values, int64_t n_elems, uint32_t* largest, const Launch& how) {
  constexpr int64_t kMaxCtas = 2048;
  const int64_t n_chunks = n_elems / 8;
  return launch(sized(how, std::min(n_chunks, kMaxCtas * kThreads)), largest_magnitude_kernel,
                reinterpret_cast<const uint4*>(values), n_chunks, largest);
}

cudaError_t launch_scale_rows(const Fp8Product& of, bool add, float* y, int64_t y_stride, const Launch& how) {
  const int row_chunks = of.n_rows / 8;
  const int64_t n_chunks = int64_t{of.n_tokens} * row_chunks;
  return launch(sized(how, n_chunks), add ? scale_rows_kernel<true> : scale_rows_kernel<false>,
                reinterpret_cast<const uint4*>(of.product), of.factor, row_chunks, n_chunks, y, y_stride);
}

cudaError_t launch_swiglu_rows(const Fp8Product& of, __half* ff, int64_t ff_stride, const Launch& how) {
  const int d_ff = of.n_rows / 2, row_chunks = (d_ff + 127) / 128 * 16;
  const int64_t n_chunks = int64_t{of.n_tokens} * row_chunks;
  return launch(sized(how, n_chunks), swiglu_rows_kernel, reinterpret_cast<const uint32_t*>(of.product), of.factor,
                d_ff, row_chunks, n_chunks, ff, ff_stride);
}

}  // namespace spate::cuda
