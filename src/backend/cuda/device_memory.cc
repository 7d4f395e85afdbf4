#include "backend/cuda/device_memory.h"

#include <atomic>
#include <cstring>
#include <cuda_runtime_api.h>

#include "backend/cuda/cuda_check.h"

namespace spate::cuda {

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

int64_t n_allocations() {
  return allocations;
}

int64_t free_device_bytes() {
  size_t free_bytes = 0, total_bytes = 0;
  SPATE_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the free device memory");
  return static_cast<int64_t>(free_bytes);
}

DeviceArena::DeviceArena(std::string purpose, int64_t n_bytes, bool zeroed)
    : purpose_(std::move(purpose)), n_bytes_(aligned(n_bytes)) {
  if (n_bytes_ == 0) return;
  SPATE_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), static_cast<size_t>(n_bytes_)),
             "taking {} bytes of device memory for {}", n_bytes_, purpose_);
  ++allocations;
  if (!zeroed) return;
  // The streams of an executor do not wait for the default stream, so the zeros must be there before they start.
  const cudaError_t code = cudaMemset(data_, 0, static_cast<size_t>(n_bytes_));
  const cudaError_t done = code == cudaSuccess ? cudaDeviceSynchronize() : code;
  if (done != cudaSuccess) {
    cudaFree(data_);
    SPATE_CUDA(done, "zeroing {} bytes of device memory for {}", n_bytes_, purpose_);
  }
}

DeviceArena::~DeviceArena() {
  if (data_ != nullptr) cudaFree(data_);
}

DeviceArena& DeviceArena::operator=(DeviceArena&& other) noexcept {
  std::swap(purpose_, other.purpose_);
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  std::swap(used_bytes_, other.used_bytes_);
  return *this;
}

std::byte* DeviceArena::take_bytes(int64_t n_bytes) {
  SPATE_CHECK(n_bytes >= 0 && aligned(n_bytes) <= n_bytes_ - used_bytes_,
              "{} more bytes of {}, which has {} of {} in use", n_bytes, purpose_, used_bytes_, n_bytes_);
  std::byte* taken = data_ + used_bytes_;
  used_bytes_ += aligned(n_bytes);
  return taken;
}

PinnedMemory::PinnedMemory(std::string purpose, int64_t n_bytes) : n_bytes_(n_bytes) {
  if (n_bytes_ == 0) return;
  SPATE_CUDA(cudaHostAlloc(reinterpret_cast<void**>(&data_), static_cast<size_t>(n_bytes_), cudaHostAllocDefault),
             "taking {} bytes of page-locked memory for {}", n_bytes_, purpose);
  ++allocations;
  std::memset(data_, 0, static_cast<size_t>(n_bytes_));
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

PinnedMemory& PinnedMemory::operator=(PinnedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

}  // namespace spate::cuda
