// Memory for the kernels, aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace spate::cpu {

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte, FreeMemory>;

inline AlignedMemory allocate_aligned(int64_t n_bytes, int64_t alignment = 64) {
  const int64_t n_units = n_bytes <= 0 ? 1 : (n_bytes + alignment - 1) / alignment;
  void* memory = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(n_units * alignment));
  if (memory == nullptr) throw std::bad_alloc();
  return AlignedMemory(static_cast<std::byte*>(memory));
}

// A vector whose elements start a cache line: loads and stores of 64 bytes cross none.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  T* allocate(size_t n) {
    return reinterpret_cast<T*>(allocate_aligned(static_cast<int64_t>(n * sizeof(T))).release());
  }
  void deallocate(T* memory, size_t) { std::free(memory); }
  bool operator==(const CacheLineAllocator&) const { return true; }
};
using AlignedFloats = std::vector<float, CacheLineAllocator<float>>;

// Scratch memory of a thread for one use: grows to the most that was asked for, and stays.
class Scratch {
 public:
  // What it held before is gone if it grew.
  template <typename T>
  T* at_least(int64_t n_elems) {
    const int64_t n_bytes = n_elems * int64_t{sizeof(T)};
    if (n_bytes > n_bytes_) {
      memory_ = allocate_aligned(n_bytes);
      n_bytes_ = n_bytes;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  AlignedMemory memory_;
  int64_t n_bytes_ = 0;
};

}  // namespace spate::cpu
