#include "backend/cuda/launch.h"

#include <map>
#include <mutex>
#include <utility>

namespace spate::cuda {

cudaError_t allow_shared_bytes(const void* kernel, size_t n_bytes) {
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, size_t> allowed;  // by device and kernel
  int device = 0;
  if (const cudaError_t code = cudaGetDevice(&device); code != cudaSuccess) return code;
  const std::lock_guard lock(mutex);
  size_t& bytes = allowed[{device, kernel}];
  if (n_bytes <= bytes) return cudaSuccess;
  const cudaError_t code =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(n_bytes));
  if (code != cudaSuccess) return code;
  bytes = n_bytes;
  // Such a kernel has little use for a first-level cache. An SM that kept one would have to fall idle before the next
  // kernel's CTAs, which find room beside this one's in shared memory alone, could start.
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
}

}  // namespace spate::cuda
