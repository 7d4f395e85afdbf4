#include "backend/cuda/matmul_timing.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "backend/cuda/cuda_check.h"
#include "backend/cuda/device_memory.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/step_graphs.h"

namespace spate::cuda {

namespace {

constexpr int64_t kUncachedBytes = 400 << 20;  // some times the largest L2
constexpr int kMaxCopies = 64;
// A matrix with more rows is an LM head, which is never decoded as a whole.
constexpr int kMaxDecodedRows = 100'000;

int copies_of(int64_t matrix_bytes, const std::optional<int64_t>& pass_bytes) {
  // At least two by default: a matrix larger than any cache is still no step's only one.
  const int least = pass_bytes ? 1 : 2;
  return static_cast<int>(std::clamp<int64_t>(pass_bytes.value_or(kUncachedBytes) / matrix_bytes, least, kMaxCopies));
}

// Everything a product of one shape works on.
class Bench {
 public:
  Bench(const MatmulTimingOptions& options, const DeviceProfile& profile);
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  MatmulTiming time(int n_tokens);

 private:
  void fill_weights();
  void launch_all(int n_tokens) const;

  const MatmulTimingOptions& options_;
  const DeviceProfile& profile_;
  int64_t matrix_bytes_;
  int n_copies_;
  std::unique_ptr<Gemm> gemm_;  // null: this machine has none
  DeviceArena memory_;
  std::byte* weights_ = nullptr;  // [n_copies_] matrices
  __half* x_ = nullptr;           // [max_tokens, padded_cols(n_cols)]
  float* y_ = nullptr;            // [max_tokens, n_rows]
  MatmulWorkspace workspace_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

Bench::Bench(const MatmulTimingOptions& options, const DeviceProfile& profile)
    : options_(options),
      profile_(profile),
      matrix_bytes_(packed_bytes(options.type, options.n_rows, options.n_cols)),
      n_copies_(copies_of(matrix_bytes_, options.pass_bytes)) {
  if (Result<std::unique_ptr<Gemm>> gemm = Gemm::open(); gemm) gemm_ = std::move(*gemm);
  const int max_tokens = *std::max_element(options.tokens.begin(), options.tokens.end());
  const int decoded_rows = options.n_rows > kMaxDecodedRows ? kTileRows : options.n_rows;
  const MatmulWorkspaceSize size =
      matmul_workspace_size({.max_tokens = max_tokens,
                             .decoded_elems = int64_t{padded_cols(decoded_rows)} * padded_cols(options.n_cols),
                             .max_slots = (options.n_rows + kTileRows - 1) / kTileRows,
                             .d_ff = options.n_rows,
                             .max_cols = options.n_cols},
                            profile);
  const int64_t x_elems = int64_t{max_tokens} * padded_cols(options.n_cols);
  const int64_t product_elems = profile.prefill_fp8 ? size.gate_up_elems : 0;
  const int64_t y_elems = int64_t{max_tokens} * options.n_rows;
  memory_ = DeviceArena(
      "timing matrix products",
      n_copies_ * matrix_bytes_ + aligned(x_elems * 2) + aligned(y_elems * 4) + aligned(size.partial_elems * 4) +
          aligned(size.n_counters * int64_t{4}) + aligned(size.decoded_elems * 2) + aligned(size.gemm_scratch_bytes) +
          aligned(product_elems * 4) + aligned(size.fp8_x_bytes) + aligned(size.fp8_tokens * int64_t{4}),
      true);
  weights_ = memory_.take<std::byte>(n_copies_ * matrix_bytes_);
  x_ = memory_.take<__half>(x_elems);
  y_ = memory_.take<float>(y_elems);
  workspace_ = {.partials = memory_.take<float>(size.partial_elems),
                .partial_elems = size.partial_elems,
                .counters = memory_.take<uint32_t>(size.n_counters),
                .n_counters = size.n_counters,
                .gate_up = memory_.take<float>(product_elems),
                .gate_up_elems = product_elems,
                .decoded = size.decoded_elems > 0 ? memory_.take<__half>(size.decoded_elems) : nullptr,
                .decoded_elems = size.decoded_elems,
                .gemm_scratch = memory_.take<std::byte>(size.gemm_scratch_bytes),
                .gemm = gemm_.get(),
                .fp8 = {.x = memory_.take<std::byte>(size.fp8_x_bytes),
                        .x_bytes = size.fp8_x_bytes,
                        .factors = memory_.take<float>(size.fp8_tokens),
                        .max_tokens = size.fp8_tokens}};
  SPATE_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  SPATE_CUDA(cudaEventCreate(&begin_), "making an event");
  SPATE_CUDA(cudaEventCreate(&end_), "making an event");
  fill_weights();
}

Bench::~Bench() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (begin_ != nullptr) cudaEventDestroy(begin_);
  if (end_ != nullptr) cudaEventDestroy(end_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

// Noise: what the bits are does not matter to the time, but zeros take less power and so run at a higher clock.
void Bench::fill_weights() {
  std::vector<uint32_t> noise((16 << 20) / sizeof(uint32_t));
  std::mt19937 random(1);
  for (uint32_t& bits : noise) bits = static_cast<uint32_t>(random()) & 0xBBFFBBFF;  // no float16 in it is infinite
  const auto noise_bytes = static_cast<int64_t>(noise.size() * sizeof(uint32_t));
  const int64_t x_bytes = reinterpret_cast<std::byte*>(y_) - reinterpret_cast<std::byte*>(x_);
  const auto fill = [&](std::byte* to, int64_t n_bytes) {
    for (int64_t at = 0; at < n_bytes; at += noise_bytes)
      SPATE_CUDA(cudaMemcpy(to + at, noise.data(), static_cast<size_t>(std::min(noise_bytes, n_bytes - at)),
                            cudaMemcpyHostToDevice),
                 "filling {} bytes with noise", n_bytes);
  };
  fill(weights_, n_copies_ * matrix_bytes_);
  fill(reinterpret_cast<std::byte*>(x_), x_bytes);
}

void Bench::launch_all(int n_tokens) const {
  for (int i = 0; i < n_copies_; ++i)
    matmul({.x = x_,
            .parts = {{.tiles = weights_ + i * matrix_bytes_,
                       .type = options_.type,
                       .n_rows = options_.n_rows,
                       .n_cols = options_.n_cols,
                       .fp8_log2 = 0}},
            .n_parts = 1,
            .epilogue = Epilogue::kStore,
            .y = y_,
            .y_stride = options_.n_rows},
           n_tokens, workspace_, profile_, stream_);
}

MatmulTiming Bench::time(int n_tokens) {
  launch_all(n_tokens);  // what a first launch sets up must not fall into the capture
  const std::string what = fmt::format("products of {} [{}, {}] with {} tokens", quant_name(options_.type),
                                       options_.n_rows, options_.n_cols, n_tokens);
  const CapturedGraph graph(stream_, what, [&] { launch_all(n_tokens); });
  MatmulTiming timing{.n_tokens = n_tokens, .weight_bytes = static_cast<double>(matrix_bytes_), .seconds = {}};
  for (int i = 0; i <= options_.repeat; ++i) {
    SPATE_CUDA(cudaEventRecord(begin_, stream_), "timing {}", what);
    graph.replay(stream_);
    SPATE_CUDA(cudaEventRecord(end_, stream_), "timing {}", what);
    SPATE_CUDA(cudaStreamSynchronize(stream_), "running {}", what);
    float milliseconds = 0;
    SPATE_CUDA(cudaEventElapsedTime(&milliseconds, begin_, end_), "timing {}", what);
    if (i > 0) timing.seconds.push_back(milliseconds * 1e-3 / n_copies_);  // the first one warms up
  }
  return timing;
}

}  // namespace

Result<void> time_matmul(const MatmulTimingOptions& options, const DeviceProfile& profile,
                         const std::function<bool(const MatmulTiming&)>& take) {
  SPATE_CHECK(!options.tokens.empty() && options.n_rows > 0 && options.n_cols > 0, "nothing to time");
  try {
    SPATE_CUDA(cudaSetDevice(profile.device), "using device {}", profile.device);
    Bench bench(options, profile);
    for (const int n_tokens : options.tokens)
      if (!take(bench.time(n_tokens))) break;
    return {};
  } catch (const CudaError& error) {
    return Error::backend(fmt::format("{}: {}", profile.name, error.what()));
  }
}

}  // namespace spate::cuda
