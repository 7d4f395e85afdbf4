#include "backend/cuda/cuda_check.h"

#include <cstring>

namespace spate::cuda {

void throw_cuda_error(cudaError_t code, const std::string& attempted, const char* file, int line) {
  const char* base = std::strrchr(file, '/');
  throw CudaError(code, fmt::format("{}: {} ({}), at {}:{}", attempted, cudaGetErrorString(code),
                                    cudaGetErrorName(code), base == nullptr ? file : base + 1, line));
}

}  // namespace spate::cuda
