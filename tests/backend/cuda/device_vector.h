// Memory of the device for tests, and the skip of those that need one.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <vector>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device_profile.h"

namespace spate::cuda::testing {

// A vector in device memory.
template <typename T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t n) : n_(n) {
    SPATE_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), std::max<size_t>(n, 1) * sizeof(T)),
               "allocating {} elements", n);
  }
  explicit DeviceVector(const std::vector<T>& host) : DeviceVector(host.size()) { upload(host); }
  ~DeviceVector() { cudaFree(data_); }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;

  T* get() const { return data_; }
  size_t size() const { return n_; }

  void upload(const std::vector<T>& host) {
    SPATE_CUDA(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "uploading");
  }
  // Every byte the same: 0xff makes floats of all widths NaN.
  void fill(int byte) { SPATE_CUDA(cudaMemset(data_, byte, n_ * sizeof(T)), "filling {} elements", n_); }
  std::vector<T> download() const {
    std::vector<T> host(n_);
    SPATE_CUDA(cudaMemcpy(host.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "downloading");
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t n_;
};

}  // namespace spate::cuda::testing

// Skips the test where there is no GPU that this build has code for.
#define SPATE_REQUIRE_GPU()                                             \
  if (const auto probed = ::spate::cuda::probe_device(0); !probed.ok()) \
  GTEST_SKIP() << "no GPU: " << probed.error().message
