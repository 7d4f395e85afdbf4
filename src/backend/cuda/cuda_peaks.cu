#include <algorithm>
#include <cuda_runtime.h>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/cuda_peaks.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/gemm.h"

namespace spate::cuda {

namespace {

constexpr int64_t kReadBytes = int64_t{1} << 30;  // many times any L2
constexpr int kPasses = 8;
constexpr int kGemmSize = 8192;  // rows, columns and tokens
constexpr int kThreads = 512;
constexpr int kLoads = 8;  // of 16 bytes in flight a thread

// Pseudo-random float16 in (-2, 2): multiplying zeros takes less power, and so runs at a higher clock, than real data.
__global__ void __launch_bounds__(kThreads) fill(uint32_t* data, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += int64_t{gridDim.x} * kThreads) {
    uint32_t bits = static_cast<uint32_t>(i) * 0x9E3779B1u;
    bits = (bits ^ (bits >> 15)) * 0x85EBCA77u;
    data[i] = (bits ^ (bits >> 13)) & 0xBFFFBFFFu;  // exponents below that of 2
  }
}

// Reads all of data[n]; what it makes of it reaches memory in one case of 2^32, so that nothing is optimised away.
__global__ void __launch_bounds__(kThreads) read_all(const uint4* data, int64_t n, uint32_t* out) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  uint32_t folded = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride * kLoads) {
    uint4 words[kLoads] = {};
#pragma unroll
    for (int j = 0; j < kLoads; ++j)
      if (i + j * stride < n) words[j] = __ldcs(data + i + j * stride);
#pragma unroll
    for (int j = 0; j < kLoads; ++j) folded ^= words[j].x ^ words[j].y ^ words[j].z ^ words[j].w;
  }
  if (folded == 0x6C8E9CF5u) *out = folded;
}

// Seconds of the quickest of some calls of launch(), on the default stream.
template <typename Fn>
double quickest(const Fn& launch, const char* what) {
  cudaEvent_t begin = nullptr, end = nullptr;
  SPATE_CUDA(cudaEventCreate(&begin), "making an event");
  SPATE_CUDA(cudaEventCreate(&end), "making an event");
  double best = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {
    SPATE_CUDA(cudaEventRecord(begin, nullptr), "{}", what);
    launch();
    SPATE_CUDA(cudaEventRecord(end, nullptr), "{}", what);
    SPATE_CUDA(cudaEventSynchronize(end), "{}", what);
    float milliseconds = 0;
    SPATE_CUDA(cudaEventElapsedTime(&milliseconds, begin, end), "{}", what);
    best = std::min(best, milliseconds * 1e-3);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

double read_rate(const DeviceProfile& profile, const DeviceArena& memory) {
  const auto* data = reinterpret_cast<const uint4*>(memory.data());
  fill<<<profile.n_sms * 4, kThreads>>>(reinterpret_cast<uint32_t*>(memory.data()), kReadBytes / 4);
  SPATE_CUDA_LAUNCHED("filling {} bytes", kReadBytes);
  const int64_t n = kReadBytes / static_cast<int64_t>(sizeof(uint4));
  auto* out = reinterpret_cast<uint32_t*>(memory.data());
  const double seconds = quickest(
      [&] {
        read_all<<<profile.n_sms * 4, kThreads>>>(data, n, out);
        SPATE_CUDA_LAUNCHED("reading {} bytes", kReadBytes);
      },
      "reading device memory");
  return static_cast<double>(kReadBytes) / seconds;
}

double gemm_rate(const Gemm& gemm, DeviceArena& memory) {
  constexpr int64_t kElems = int64_t{kGemmSize} * kGemmSize;
  const auto* x = memory.take<__half>(kElems);
  const auto* w = memory.take<__half>(kElems);
  auto* y = memory.take<float>(kElems);
  auto* scratch = memory.take<std::byte>(Gemm::kScratchBytes);
  const GemmArgs args{.x = x,
                      .w = w,
                      .y = y,
                      .n_tokens = kGemmSize,
                      .n_rows = kGemmSize,
                      .n_cols = kGemmSize,
                      .y_stride = kGemmSize,
                      .alpha = 1,
                      .beta = 0};
  const double seconds = quickest([&] { gemm.run(args, scratch, nullptr); }, "multiplying matrices");
  return static_cast<double>(kElems) * kGemmSize / seconds;
}

}  // namespace

Result<DevicePeaks> measure_peaks(const DeviceProfile& profile) {
  try {
    SPATE_CUDA(cudaSetDevice(profile.device), "using device {}", profile.device);
    DeviceArena memory("measuring the device", kReadBytes, false);
    DevicePeaks peaks;
    peaks.read_bytes_per_s = read_rate(profile, memory);
    if (const Result<std::unique_ptr<Gemm>> gemm = Gemm::open(); gemm) {
      peaks.float_multiply_adds_per_s = gemm_rate(**gemm, memory);
      peaks.quantised_multiply_adds_per_s = peaks.float_multiply_adds_per_s;
      peaks.rates.push_back({.name = "cuBLASLt float16", .per_s = peaks.float_multiply_adds_per_s});
    }
    return peaks;
  } catch (const CudaError& error) {
    return Error::backend(fmt::format("{}: {}", profile.name, error.what()));
  }
}

}  // namespace spate::cuda
