// Launching kernels, with programmatic dependent launch where the device has it.
//
// A kernel that is launched `dependent` may start while its predecessor in the stream still runs: it does what needs no
// input (prefetching weights, shared-memory set-up), calls wait_for_predecessor(), and only then reads what others
// wrote, or overwrites what others read. EVERY kernel of a chain must call it, on every path and in every CTA, or its
// successor's successor may read stale data: the wait covers the predecessor alone, whose own end covers the rest.
#pragma once

#include <cuda_runtime.h>
#include <utility>

#include "backend/cuda/cuda_check.h"

namespace spate::cuda {

#ifdef __CUDACC__

// Blocks until the kernel before this one in the stream has ended and its writes are visible. No effect in a kernel
// that was launched without `dependent`.
__device__ __forceinline__ void wait_for_predecessor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the kernel after this one start as soon as every CTA of this one has called it or ended. At the top of a kernel:
// the successor's CTAs take the places that this kernel leaves free.
__device__ __forceinline__ void release_successor() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif  // __CUDACC__

struct Launch {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
  bool dependent = false;  // DeviceProfile::dependent_launch
  int cluster_z = 1;       // CTAs of a thread block cluster, neighbours along z; divides grid.z
};

// Dynamic shared memory that a CTA gets without asking: of 48 KB, what static memory can be counted on to leave.
inline constexpr size_t kDefaultSharedBytes = 32 * 1024;

// Raises the dynamic shared memory that a kernel may ask for on the current device, never lowers it: executors share
// their kernels. Any thread.
[[nodiscard]] cudaError_t allow_shared_bytes(const void* kernel, size_t n_bytes);

// Launches kernel<<<...>>>(args...). To be checked with what was attempted:
//   SPATE_CUDA(launch({.grid = n_rows, .block = 256, .stream = stream}, kernel, a, b), "rms_norm of {} rows", n_rows);
template <typename... Params, typename... Args>
[[nodiscard]] cudaError_t launch(const Launch& how, void (*kernel)(Params...), Args&&... args) {
  if (how.shared_bytes > kDefaultSharedBytes) {
    const cudaError_t code = allow_shared_bytes(reinterpret_cast<const void*>(kernel), how.shared_bytes);
    if (code != cudaSuccess) return code;
  }
  cudaLaunchAttribute attributes[2]{};
  unsigned n_attributes = 0;
  if (how.dependent) {
    cudaLaunchAttribute& attribute = attributes[n_attributes++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (how.cluster_z > 1) {
    cudaLaunchAttribute& attribute = attributes[n_attributes++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {1, 1, static_cast<unsigned>(how.cluster_z)};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.shared_bytes;
  config.stream = how.stream;
  config.attrs = attributes;
  config.numAttrs = n_attributes;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...);
}

}  // namespace spate::cuda
