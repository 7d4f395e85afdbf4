// What one rendering holds and spends: live bytes, steps, depth. It also makes sure that everything is freed, without
// deep native recursion, whatever values refer to one another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "jinja/failure.h"
#include "jinja/limits.h"

namespace spate::jinja {

// Something that can take part in a cycle of references: a scope and the macro that closes over it, a list appended to
// itself.
class Breakable {
 public:
  virtual ~Breakable() = default;
  virtual void break_references() = 0;
};

class Heap {
 public:
  explicit Heap(const Limits& limits) : limits_(limits) {}
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  const Limits& limits() const { return limits_; }

  // n units of work (Limits::max_steps).
  void step(int64_t n = 1) {
    n_steps_ += n;
    if (n_steps_ > limits_.max_steps) [[unlikely]]
      fail_steps();
  }
  // The work of going through n bytes as a search or a copy does, and of looking at them character by character.
  void read(size_t n_bytes) { step(static_cast<int64_t>(n_bytes / 64)); }
  void scan(size_t n_bytes) { step(static_cast<int64_t>(n_bytes / 4)); }

  void allocate(size_t n_bytes) {
    if (n_bytes > limits_.max_memory_bytes - live_bytes_) [[unlikely]]
      fail_memory();
    live_bytes_ += n_bytes;
    read(n_bytes);
  }
  void release(size_t n_bytes) { live_bytes_ -= n_bytes; }
  size_t live_bytes() const { return live_bytes_; }

  // Called once for an object that may become part of a cycle; its references are broken at the end of the rendering.
  void keep(std::shared_ptr<Breakable> object);
  // Drops the reference; destroying what it held last never recurses natively, however long the chain of lists in
  // lists.
  void bury(std::shared_ptr<void> object);

 private:
  friend class DepthGuard;
  [[noreturn]] void fail_steps() const;
  [[noreturn]] void fail_memory() const;
  [[noreturn]] void fail_depth() const;

  const Limits limits_;
  size_t live_bytes_ = 0;
  int64_t n_steps_ = 0;
  int depth_ = 0;
  std::vector<std::shared_ptr<Breakable>> kept_;
  std::vector<std::shared_ptr<void>> buried_;
  bool burying_ = false;
};

// One level of native recursion, counted against Limits::max_depth while it lives.
class DepthGuard {
 public:
  explicit DepthGuard(Heap& heap) : heap_(heap) {
    if (heap_.depth_ >= heap_.limits_.max_depth) [[unlikely]]
      heap_.fail_depth();
    ++heap_.depth_;
  }
  ~DepthGuard() { --heap_.depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Heap& heap_;
};

// Bytes of a heap that an object accounts for while it lives. Without a heap it counts nothing: template literals and
// input values belong to no rendering.
class MemoryCharge {
 public:
  MemoryCharge() = default;
  explicit MemoryCharge(Heap* heap) : heap_(heap) {}
  MemoryCharge(MemoryCharge&& other) noexcept
      : heap_(std::exchange(other.heap_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  MemoryCharge& operator=(MemoryCharge&&) = delete;
  ~MemoryCharge() {
    if (heap_) heap_->release(n_bytes_);
  }

  Heap* heap() const { return heap_; }
  void grow(size_t n_bytes) {
    if (!heap_) return;
    heap_->allocate(n_bytes);
    n_bytes_ += n_bytes;
  }

 private:
  Heap* heap_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace spate::jinja
