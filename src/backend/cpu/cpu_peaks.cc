#include "backend/cpu/cpu_peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fmt/core.h>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "backend/cpu/peak_kernels.h"
#include "base/thread_pool.h"

namespace spate {

namespace cpu {

namespace {

constexpr size_t kReadBytes = size_t{512} << 20;  // several times the last-level caches in use
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int kPasses = 7;
constexpr double kRateSeconds = 0.01;  // of a pass of multiply-adds

const PeakKernels& kernels_of(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return avx2_peak_kernels();
    case Isa::kAvx512:
      return avx512_peak_kernels();
    case Isa::kAmx:
      return amx_peak_kernels();
#endif
    default:
      return portable_peak_kernels();
  }
}

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, FreeMemory>;

Memory allocate(size_t n_bytes) {
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(kHugePage, n_bytes)));
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  madvise(memory.get(), n_bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

// Seconds that all threads together take for fn(thread).
template <typename Fn>
double seconds_of(ThreadPool& pool, const Fn& fn) {
  const auto start = std::chrono::steady_clock::now();
  pool.run(fn);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double read_bytes_per_s(ThreadPool& pool, const PeakKernels& kernels) {
  const size_t share = kReadBytes / static_cast<size_t>(pool.size()) / kReadUnit * kReadUnit;
  const Memory memory = allocate(kReadBytes);
  // Written by the thread that will read it: on a machine of several nodes its memory is then near.
  pool.run([&](int thread) { std::memset(memory.get() + static_cast<size_t>(thread) * share, 1, share); });
  std::atomic<int64_t> sink{0};
  double best = 1e30;
  for (int pass = 0; pass < kPasses; ++pass)
    best = std::min(best, seconds_of(pool, [&](int thread) {
                      sink += kernels.read(memory.get() + static_cast<size_t>(thread) * share, share);
                    }));
  return static_cast<double>(share) * pool.size() / best;
}

double multiply_adds_per_s(ThreadPool& pool, const PeakLoop& loop) {
  std::atomic<int64_t> sink{0};
  const auto pass = [&](int64_t n_rounds) { return seconds_of(pool, [&](int) { sink += loop.run(n_rounds); }); };
  int64_t n_rounds = 1024;
  while (pass(n_rounds) < kRateSeconds) n_rounds *= 2;
  double best = 1e30;
  for (int i = 0; i < kPasses; ++i) best = std::min(best, pass(n_rounds));
  return static_cast<double>(n_rounds * loop.multiply_adds_per_round) * pool.size() / best;
}

}  // namespace

}  // namespace cpu

DevicePeaks measure_cpu_peaks(int n_threads, Isa isa) {
  ThreadPool pool(n_threads);
  DevicePeaks peaks{.read_bytes_per_s = cpu::read_bytes_per_s(pool, cpu::kernels_of(isa))};
  for (const Isa each : kAllIsas) {
    if (!isa_supported(each)) continue;
    const cpu::PeakKernels& kernels = cpu::kernels_of(each);
    const double int8 = cpu::multiply_adds_per_s(pool, kernels.int8);
    const double float32 = cpu::multiply_adds_per_s(pool, kernels.float32);
    peaks.rates.push_back({fmt::format("{} int8", isa_name(each)), int8});
    peaks.rates.push_back({fmt::format("{} float32", isa_name(each)), float32});
    double bf16 = 0;
    if (kernels.bf16.run != nullptr) {
      bf16 = cpu::multiply_adds_per_s(pool, kernels.bf16);
      peaks.rates.push_back({fmt::format("{} bf16", isa_name(each)), bf16});
    }
    if (each != isa) continue;
    peaks.quantised_multiply_adds_per_s = int8;
    peaks.float_multiply_adds_per_s = std::max(float32, bf16);
  }
  return peaks;
}

}  // namespace spate
