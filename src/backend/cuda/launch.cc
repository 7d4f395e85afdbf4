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
  if (code == cudaSuccess) bytes = n_bytes;
  return code;
}

}  // namespace spate::cuda
