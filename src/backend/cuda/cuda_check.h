// Checked CUDA calls and launches. A fault is a CudaError: the executor turns it into an Error (kBackend) for the steps
// in flight.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/core.h>
#include <stdexcept>
#include <string>

namespace spate::cuda {

// A device or driver fault: what was attempted, on what sizes, the CUDA error and where in the source.
class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t code, const std::string& what) : std::runtime_error(what), code_(code) {}
  cudaError_t code() const { return code_; }

 private:
  cudaError_t code_;
};

[[noreturn]] void throw_cuda_error(cudaError_t code, const std::string& attempted, const char* file, int line);

}  // namespace spate::cuda

// SPATE_CUDA(cudaMalloc(&p, n), "allocating {} bytes for the KV pool", n);
#define SPATE_CUDA(call, ...)                                                                         \
  do {                                                                                                \
    const cudaError_t spate_cuda_code = (call);                                                       \
    if (spate_cuda_code != cudaSuccess) [[unlikely]]                                                  \
      ::spate::cuda::throw_cuda_error(spate_cuda_code, fmt::format(__VA_ARGS__), __FILE__, __LINE__); \
  } while (false)

// After a kernel launch: SPATE_CUDA_LAUNCHED("rms_norm of {} rows of {}", n_rows, d_model);
#define SPATE_CUDA_LAUNCHED(...) SPATE_CUDA(cudaGetLastError(), __VA_ARGS__)
