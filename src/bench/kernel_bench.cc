#include "bench/kernel_bench.h"

#include <algorithm>
#include <chrono>

#include "backend/cpu/linear.h"
#include "base/thread_pool.h"
#include "bench/synth_weights.h"

namespace spate {

namespace {

constexpr int64_t kUncachedBytes = int64_t{256}
                                   << 20;   // as much as the last-level caches of the largest processors hold
constexpr double kPassMultiplyAdds = 1e10;  // a fraction of a second

std::vector<std::byte> random_matrix(const QblockPool& pool, const KernelShape& shape, uint64_t seed) {
  std::vector<std::byte> rows;
  rows.reserve(static_cast<size_t>(quant_bytes(pool.type(), shape.n_rows * shape.n_cols)));
  SplitMix random(seed);
  const auto filled = pool.stream(rows.capacity(), random, [&](std::span<const std::byte> piece) -> Result<void> {
    rows.insert(rows.end(), piece.begin(), piece.end());
    return {};
  });
  SPATE_CHECK(filled.ok());
  return rows;
}

std::vector<cpu::PackedMatrix> pack_matrices(QuantType type, const KernelShape& shape, int64_t pass_bytes,
                                             ThreadPool& pool) {
  const QblockPool qblocks(type, 0.02f, static_cast<uint64_t>(type));
  const int64_t n_bytes = quant_bytes(type, shape.n_rows * shape.n_cols);
  std::vector<cpu::PackedMatrix> matrices;
  for (int64_t i = 0; i < std::max<int64_t>(1, pass_bytes / n_bytes); ++i) {
    const std::vector<std::byte> rows = random_matrix(qblocks, shape, static_cast<uint64_t>(i));
    matrices.push_back(cpu::PackedMatrix::pack(type, rows.data(), shape.n_rows, shape.n_cols, pool));
  }
  return matrices;
}

std::vector<float> random_activations(int n_tokens, int64_t n_cols) {
  std::vector<float> x(static_cast<size_t>(n_tokens * n_cols));
  SplitMix random(1);
  for (float& value : x) value = random.symmetric();
  return x;
}

KernelTiming time_kernel(const std::vector<cpu::PackedMatrix>& matrices, Isa isa, int n_tokens, int repeat,
                         ThreadPool& pool) {
  const cpu::PackedMatrix& first = matrices.front();
  const KernelShape shape{.n_rows = first.n_rows(), .n_cols = first.n_cols()};
  const double products = static_cast<double>(shape.n_rows * shape.n_cols) * n_tokens;
  const auto n_used = std::clamp<size_t>(static_cast<size_t>(kPassMultiplyAdds / products), 1, matrices.size());
  const std::vector<float> x = random_activations(n_tokens, shape.n_cols);
  cpu::ActivationBuffer buffer(n_tokens, static_cast<int>(shape.n_cols));
  const cpu::Activations input =
      buffer.fill(pool, isa, x.data(), n_tokens, static_cast<int>(shape.n_cols), first.takes_int8());
  std::vector<float> y(static_cast<size_t>(n_tokens * shape.n_rows));
  KernelTiming timing{.isa = isa,
                      .type = first.type(),
                      .shape = shape,
                      .n_tokens = n_tokens,
                      .weight_bytes = static_cast<double>(n_used) *
                                      static_cast<double>(quant_bytes(first.type(), shape.n_rows * shape.n_cols)),
                      .multiply_adds = static_cast<double>(n_used) * products,
                      .seconds = {}};
  for (int i = -1; i < repeat; ++i) {  // one to warm up
    const auto start = std::chrono::steady_clock::now();
    for (size_t m = 0; m < n_used; ++m) {
      const cpu::LinearJob job{.weight = &matrices[m], .input = input, .y = y.data(), .y_stride = shape.n_rows};
      cpu::run_linear(pool, isa, {&job, 1});
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i >= 0) timing.seconds.push_back(seconds);
  }
  return timing;
}

}  // namespace

Result<void> time_cpu_kernels(const KernelBenchOptions& options, const std::function<bool(const KernelTiming&)>& take) {
  SPATE_CHECK(options.repeat >= 1 && options.n_threads >= 1);
  ThreadPool pool(options.n_threads);
  for (const KernelShape& shape : options.shapes)
    for (const QuantType type : options.types) {
      if (shape.n_cols % quant_traits(type).block_elems != 0) continue;
      const std::vector<cpu::PackedMatrix> matrices =
          pack_matrices(type, shape, options.pass_bytes.value_or(kUncachedBytes), pool);
      for (const Isa isa : options.isas)
        for (const int n_tokens : options.tokens)
          if (!take(time_kernel(matrices, isa, n_tokens, options.repeat, pool)))
            return Error::interrupted("stopped before everything was measured");
    }
  return {};
}

}  // namespace spate
