// Memory of the device, and memory of the host that the device reads and writes at full speed. It is taken when an
// executor is made, an arena for each purpose, and never during a step: every allocation is counted, and a test runs
// ten thousand steps to see the count stand still.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/check.h"

namespace spate::cuda {

// Arenas and pinned blocks made by this process so far.
int64_t n_allocations();

// What the device has free now.
int64_t free_device_bytes();

inline constexpr int64_t kAlignment = 256;  // bytes; of everything handed out

constexpr int64_t aligned(int64_t n_bytes) {
  return (n_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// One piece of device memory, handed out from front to back and freed as a whole. Throws CudaError where it does not
// fit.
class DeviceArena {
 public:
  DeviceArena() = default;
  // purpose: for messages, as in "the weights". zeroed: every byte is zero before any stream uses it.
  DeviceArena(std::string purpose, int64_t n_bytes, bool zeroed);
  ~DeviceArena();
  DeviceArena(DeviceArena&& other) noexcept { *this = std::move(other); }
  DeviceArena& operator=(DeviceArena&& other) noexcept;

  // The next n_elems of a type. Running out is our bug: the size was computed from the same list.
  template <typename T>
  T* take(int64_t n_elems) {
    return reinterpret_cast<T*>(take_bytes(n_elems * static_cast<int64_t>(sizeof(T))));
  }

  std::byte* data() const { return data_; }
  int64_t n_bytes() const { return n_bytes_; }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  std::byte* take_bytes(int64_t n_bytes);

  std::string purpose_;
  std::byte* data_ = nullptr;
  int64_t n_bytes_ = 0, used_bytes_ = 0;
};

// Page-locked host memory, zeroed; the device may also address it by the same pointer.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(std::string purpose, int64_t n_bytes);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  int64_t n_bytes() const { return n_bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t n_bytes_ = 0;
};

}  // namespace spate::cuda
