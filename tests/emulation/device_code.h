// What kernel files find when they are compiled as C++: CUDA's keywords, built-in variables and functions. Included
// before everything else in them (-include).
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <type_traits>

#include "instructions.h"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __shared__  // patch_sources.py replaces each; what it overlooks is not to compile
#undef __device__
#define __device__
#undef __global__
#define __global__
#undef __host__
#define __host__
#undef __noinline__
#define __noinline__  // and not an attribute: the C++ library's headers write __attribute__((__noinline__))

// Of the thread that runs; the scheduler sets them.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// --- barriers and fences
inline void __syncthreads() {
  emu::bar_sync(0, 0);
}
inline void __syncwarp(unsigned mask = 0xffffffff) {
  emu::collective(
      mask, "__syncwarp", [](emu::Lanes, uint32_t) {}, nullptr);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() {
  emu::trap();
}

// --- operations of warps

namespace emu {
template <typename T>
struct Shuffle {
  T value, out;
  int source;  // lane
};
template <typename T>
T shuffle(uint32_t mask, T value, int source, const char* what) {
  Shuffle<T> mine{value, value, source};
  collective(
      mask, what,
      [](Lanes lanes, uint32_t among) {
        for (int l = 0; l < 32; ++l) {
          if ((among >> l & 1) == 0) continue;
          auto* to = static_cast<Shuffle<T>*>(lanes[l]);
          if ((among >> to->source & 1) == 0) {
            std::fprintf(stderr, "emulation: a shuffle reads lane %d, which is not in its mask\n", to->source);
            trap();
          }
          to->out = static_cast<Shuffle<T>*>(lanes[to->source])->value;
        }
      },
      &mine);
  return mine.out;
}
template <typename T>
struct Reduce {
  T value;
};
template <typename T, typename Op>
T reduce(uint32_t mask, T value, Op, const char* what) {
  Reduce<T> mine{value};
  collective(
      mask, what,
      [](Lanes lanes, uint32_t among) {
        bool any = false;
        T all{};
        for (int l = 0; l < 32; ++l) {
          if ((among >> l & 1) == 0) continue;
          const T v = static_cast<Reduce<T>*>(lanes[l])->value;
          all = any ? Op{}(all, v) : v;
          any = true;
        }
        for (int l = 0; l < 32; ++l)
          if (among >> l & 1) static_cast<Reduce<T>*>(lanes[l])->value = all;
      },
      &mine);
  return mine.value;
}
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Or {
  template <typename T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct And {
  template <typename T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
}  // namespace emu

template <typename T>
T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32) {
  const int l = emu::lane(), to = l ^ x;
  return emu::shuffle(mask, v, to / width > l / width ? l : to, "__shfl_xor_sync");
}
template <typename T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const int l = emu::lane();
  return emu::shuffle(mask, v, l / width * width + (source & (width - 1)), "__shfl_sync");
}
template <typename T>
T __shfl_up_sync(unsigned mask, T v, unsigned n, int width = 32) {
  const int l = emu::lane(), from = l - static_cast<int>(n);
  return emu::shuffle(mask, v, from < l / width * width ? l : from, "__shfl_up_sync");
}
template <typename T>
T __shfl_down_sync(unsigned mask, T v, unsigned n, int width = 32) {
  const int l = emu::lane(), from = l + static_cast<int>(n);
  return emu::shuffle(mask, v, from >= (l / width + 1) * width ? l : from, "__shfl_down_sync");
}
inline unsigned __ballot_sync(unsigned mask, int v) {
  return emu::reduce<unsigned>(mask, v ? 1u << emu::lane() : 0u, emu::Or{}, "__ballot_sync");
}
inline int __any_sync(unsigned mask, int v) {
  return emu::reduce<unsigned>(mask, v != 0, emu::Or{}, "__any_sync");
}
inline int __all_sync(unsigned mask, int v) {
  return emu::reduce<unsigned>(mask, v != 0, emu::And{}, "__all_sync");
}
template <typename T>
T __reduce_max_sync(unsigned mask, T v) {
  return emu::reduce(mask, v, emu::Max{}, "__reduce_max_sync");
}
template <typename T>
T __reduce_min_sync(unsigned mask, T v) {
  return emu::reduce(mask, v, emu::Min{}, "__reduce_min_sync");
}
template <typename T>
T __reduce_add_sync(unsigned mask, T v) {
  return emu::reduce(mask, v, emu::Add{}, "__reduce_add_sync");
}
template <typename T>
T __reduce_or_sync(unsigned mask, T v) {
  return emu::reduce(mask, v, emu::Or{}, "__reduce_or_sync");
}

// --- memory. A fiber is never interrupted, so that plain reads and writes are atomic.

template <typename T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  T old = *p;
  *p += v;
  return old;
}
template <typename T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  T old = *p;
  *p = v > old ? v : old;
  return old;
}
template <typename T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  T old = *p;
  *p = v < old ? v : old;
  return old;
}
template <typename T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  T old = *p;
  *p = v;
  return old;
}
template <typename T>
T atomicOr(T* p, std::type_identity_t<T> v) {
  T old = *p;
  *p |= v;
  return old;
}

template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
void __stcg(T* p, std::type_identity_t<T> v) {
  *p = v;
}
template <typename T>
void __stcs(T* p, std::type_identity_t<T> v) {
  *p = v;
}

// --- integers and bits

inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
  const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i) out |= static_cast<unsigned>(both >> (8 * (s >> (4 * i) & 7)) & 255) << (8 * i);
  return out;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<uint64_t>(a) * b >> 32;
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned __int128>(a) * b >> 64;
}
inline int __ffs(int v) {
  return __builtin_ffs(v);
}
inline int __popc(unsigned v) {
  return __builtin_popcount(v);
}
inline int __clz(int v) {
  return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v));
}
inline float __uint_as_float(unsigned v) {
  return std::bit_cast<float>(v);
}
inline float __int_as_float(int v) {
  return std::bit_cast<float>(v);
}
inline unsigned __float_as_uint(float v) {
  return std::bit_cast<unsigned>(v);
}
inline int __float_as_int(float v) {
  return std::bit_cast<int>(v);
}
// --- floats. Kernel files are compiled without contraction; what a GPU approximates is rounded correctly.

inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline double __dmul_rn(double a, double b) {
  return a * b;
}
inline double __dadd_rn(double a, double b) {
  return a + b;
}
inline unsigned long long __float2ull_rn(float v) {
  return static_cast<unsigned long long>(std::nearbyint(v));
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float rsqrtf(float v) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(v)));
}
inline float emu_expf(float v) {
  return static_cast<float>(std::exp(static_cast<double>(v)));
}
#define __expf emu_expf
inline float emu_logf(float v) {
  return static_cast<float>(std::log(static_cast<double>(v)));
}
#define __logf emu_logf
inline void sincospif(float v, float* s, float* c) {
  *s = static_cast<float>(std::sin(static_cast<double>(v) * M_PI));
  *c = static_cast<float>(std::cos(static_cast<double>(v) * M_PI));
}
// --- addresses

inline size_t __cvta_generic_to_shared(const void* p) {
  return emu::address_of(p);
}
inline void* __cvta_shared_to_generic(size_t a) {
  return emu::pointer_of(static_cast<uint32_t>(a), 1, 1);
}

// --- min and max, of the pairs of types that CUDA has them for

#define SPATE_EMU_MIN_MAX(R, A, B)                                                        \
  constexpr R min(A a, B b) {                                                             \
    return static_cast<R>(a) < static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); \
  }                                                                                       \
  constexpr R max(A a, B b) {                                                             \
    return static_cast<R>(a) > static_cast<R>(b) ? static_cast<R>(a) : static_cast<R>(b); \
  }
SPATE_EMU_MIN_MAX(int, int, int)
SPATE_EMU_MIN_MAX(unsigned, unsigned, unsigned)
SPATE_EMU_MIN_MAX(unsigned, int, unsigned)
SPATE_EMU_MIN_MAX(unsigned, unsigned, int)
SPATE_EMU_MIN_MAX(long, long, long)
SPATE_EMU_MIN_MAX(long, long, int)
SPATE_EMU_MIN_MAX(long, int, long)
SPATE_EMU_MIN_MAX(unsigned long, unsigned long, unsigned long)
SPATE_EMU_MIN_MAX(long long, long long, long long)
SPATE_EMU_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
SPATE_EMU_MIN_MAX(float, float, float)
SPATE_EMU_MIN_MAX(double, double, double)
#undef SPATE_EMU_MIN_MAX
