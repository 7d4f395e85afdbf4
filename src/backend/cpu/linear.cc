#include "backend/cpu/linear.h"

#include <algorithm>
#include <array>
#include <atomic>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "backend/cpu/aligned_memory.h"
#include "backend/cpu/linear_by_tiles.h"
#include "backend/cpu/panel_pack.h"
#include "base/check.h"

namespace spate::cpu {

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return avx2_linear_kernels();
    case Isa::kAvx512:
      return avx512_linear_kernels();
    case Isa::kAmx:
      return amx_linear_kernels();
#endif
    default:
      return portable_linear_kernels();
  }
}

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

// Weights are read from end to end for every token: with 4 KB pages the walks of the page tables show. The last page is
// advised whole: its part of a matrix of 8 MB is up to a quarter.
AlignedMemory allocate_panels(int64_t n_bytes) {
  if (n_bytes < kHugePage / 2) return allocate_aligned(n_bytes, 64);
  AlignedMemory memory = allocate_aligned(n_bytes, kHugePage);
#if defined(__linux__)
  const int64_t n_pages = (n_bytes + kHugePage - 1) / kHugePage;
  madvise(memory.get(), static_cast<size_t>(n_pages * kHugePage), MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace

ActivationBuffer::ActivationBuffer(int max_tokens, int max_cols, int tile_min_tokens)
    : max_tokens_(max_tokens), max_cols_(max_cols), tile_min_tokens_(tile_min_tokens) {
  const int64_t block_bytes = int64_t{max_cols} / kActivationBlock * max_tokens * int64_t{sizeof(ActivationBlock)};
  memory_ = allocate_aligned(std::max(block_bytes, token_tiles_bytes(max_tokens, max_cols)));
}

uint16_t* ActivationBuffer::tile_memory(int n_tokens, int n_cols) {
  SPATE_CHECK(n_tokens <= max_tokens_ && n_cols <= max_cols_, "{} x {} activations in a buffer for {} x {}", n_tokens,
              n_cols, max_tokens_, max_cols_);
  return reinterpret_cast<uint16_t*>(memory_.get());
}

Activations ActivationBuffer::fill(ThreadPool& pool, Isa isa, const float* x, int n_tokens, int n_cols, bool need_int8,
                                   int step_tokens) {
  SPATE_CHECK(n_tokens <= max_tokens_ && n_cols <= max_cols_, "{} x {} activations in a buffer for {} x {}", n_tokens,
              n_cols, max_tokens_, max_cols_);
  const LinearKernels& kernels = linear_kernels(isa);
  Activations result{.x = x, .n_tokens = n_tokens, .n_cols = n_cols};
  const bool many = std::max(n_tokens, step_tokens) >= tile_min_tokens_;
  if (kernels.tiles != nullptr && many && n_cols % kTileColumns == 0) {
    result.tiles = pack_tokens(pool, *kernels.tiles, x, n_tokens, n_cols, tile_memory(n_tokens, n_cols));
    return result;
  }
  if (!need_int8) return result;
  SPATE_CHECK(n_cols % kActivationBlock == 0, "{} columns for weights of integer qblocks", n_cols);
  const int64_t row_blocks = n_cols / kActivationBlock;
  auto* blocks = reinterpret_cast<ActivationBlock*>(memory_.get());
  // About 10 us a chunk: below that the threads cost more than they bring.
  constexpr int64_t kChunkBlocks = 512;
  pool.parallel_for(n_tokens * row_blocks, kChunkBlocks, [&](int, int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t token = begin / row_blocks, first = begin % row_blocks;
      const int64_t n = std::min(end - begin, row_blocks - first);
      kernels.quantize(x + token * n_cols + first * kActivationBlock, n, blocks + first * n_tokens + token, n_tokens);
      begin += n;
    }
  });
  result.blocks = blocks;
  return result;
}

PackedMatrix::PackedMatrix(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols)
    : type_(type), n_rows_(n_rows), n_cols_(n_cols), row_bytes_(quant_bytes(type, n_cols)), rows_(rows) {
  SPATE_CHECK(quant_traits(type).decode != nullptr, "no kernels of {}", quant_name(type));
}

PackedMatrix PackedMatrix::pack(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols,
                                ThreadPool& pool) {
  PackedMatrix matrix(type, rows, n_rows, n_cols);
  matrix.panels_ = allocate_panels(matrix.n_panels() * matrix.panel_bytes());
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / matrix.panel_bytes());
  pool.parallel_for(matrix.n_panels(), grain, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) matrix.lay_out_panel(i, matrix.panels_.get() + i * matrix.panel_bytes());
  });
  matrix.rows_ = nullptr;
  return matrix;
}

PackedMatrix PackedMatrix::borrow(QuantType type, const std::byte* rows, int64_t n_rows, int64_t n_cols) {
  return {type, rows, n_rows, n_cols};
}

bool PackedMatrix::takes_int8() const {
  return quant_traits(type_).block_elems > 1;
}

void PackedMatrix::lay_out_panel(int64_t index, std::byte* panel) const {
  const int64_t first = index * kPanelRows;
  const int n_valid = static_cast<int>(std::min<int64_t>(kPanelRows, n_rows_ - first));
  pack_panel(type_, rows_ + first * row_bytes_, n_valid, n_cols_, panel);
}

namespace {

void check_job(const LinearJob& job) {
  const Activations& input = job.input;
  SPATE_CHECK(input.n_cols == job.weight->n_cols(), "{} columns of activations, {} of weights", input.n_cols,
              job.weight->n_cols());
  const bool tiles = input.tiles.tiles != nullptr && job.weight->type() != QuantType::kF32;
  const bool present = tiles || (job.weight->takes_int8() ? input.blocks != nullptr : input.x != nullptr);
  SPATE_CHECK(input.n_tokens == 0 || present, "the activations lack what weights of {} take",
              quant_name(job.weight->type()));
  SPATE_CHECK(job.y_stride >= job.weight->n_rows() || input.n_tokens <= 1, "rows of y overlap");
}

// The kernel of a type for so many tokens, ready for calls while this lives.
class ReadyKernel {
 public:
  ReadyKernel(const LinearKernels& kernels, QuantType type, int n_tokens) : run_(kernels.kernel_for(type)) {
    if (kernels.few_kernel_for == nullptr) return;
    const FewTokenKernel few = kernels.few_kernel_for(type, n_tokens);
    if (few.run == nullptr) return;
    few.begin(n_tokens);
    run_ = few.run;
    end_ = few.end;
  }
  ~ReadyKernel() {
    if (end_ != nullptr) end_();
  }
  ReadyKernel(const ReadyKernel&) = delete;
  ReadyKernel& operator=(const ReadyKernel&) = delete;

  void operator()(const PanelProduct& product) const { run_(product); }

 private:
  PanelKernel run_;
  void (*end_)() = nullptr;
};

int tokens_from(const LinearJob& job, int first_token) {
  return std::min(kTokenBlock, job.input.n_tokens - first_token);
}

void run_panel(const ReadyKernel& kernel, const LinearJob& job, const std::byte* panel, int64_t index,
               int first_token) {
  const Activations& input = job.input;
  const int64_t first_row = index * kPanelRows;
  kernel({.panel = panel,
          .n_cols = input.n_cols,
          .x = input.x == nullptr ? nullptr : input.x + int64_t{first_token} * input.n_cols,
          .blocks = input.blocks == nullptr ? nullptr : input.blocks + first_token,
          .block_stride = input.n_tokens,
          .n_tokens = tokens_from(job, first_token),
          .bias = job.bias == nullptr ? nullptr : job.bias + first_row,
          .y = job.y + first_token * job.y_stride + first_row,
          .y_stride = job.y_stride,
          .n_valid = static_cast<int>(std::min<int64_t>(kPanelRows, job.weight->n_rows() - first_row)),
          .accumulate = job.accumulate});
}

// Panels [begin, end) of one job. Tokens outside, panels inside: a block of activations serves several panels from the
// second-level cache. Not so where laying a panel out again for each token block would cost more.
void run_panels(const LinearKernels& kernels, const LinearJob& job, int64_t begin, int64_t end) {
  const PackedMatrix& weight = *job.weight;
  if (weight.memory_bytes() > 0) {
    for (int token = 0; token < job.input.n_tokens; token += kTokenBlock) {
      const ReadyKernel kernel(kernels, weight.type(), tokens_from(job, token));
      for (int64_t i = begin; i < end; ++i) run_panel(kernel, job, weight.panel(i), i, token);
    }
    return;
  }
  thread_local Scratch memory;
  auto* scratch = memory.at_least<std::byte>(weight.panel_bytes());
  for (int64_t i = begin; i < end; ++i) {
    weight.lay_out_panel(i, scratch);
    for (int token = 0; token < job.input.n_tokens; token += kTokenBlock)
      run_panel(ReadyKernel(kernels, weight.type(), tokens_from(job, token)), job, scratch, i, token);
  }
}

// Few enough panels that at the end no thread waits long for another; but where a block of activations takes turns with
// another in the second-level cache, enough to share it.
int64_t panels_of_chunk(int64_t n_panels, int n_tokens, int n_threads) {
  const int64_t chunks_per_thread = n_tokens <= kTokenBlock ? 64 : 8;
  return std::max<int64_t>(1, n_panels / (chunks_per_thread * n_threads));
}

// One thread's chunks, of which other threads take some once they have none.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t end;
};

// fn(begin, end) over [0, n_items) in chunks of `grain`. A thread's chunks follow one another, so that what it fetches
// ahead is its own: with chunks handed out in turn, each began by waiting for memory.
template <typename Fn>
void run_shares(ThreadPool& pool, int64_t n_items, int64_t grain, const Fn& fn) {
  constexpr int kMaxThreads = 64;
  const int n_threads = pool.size();
  if (n_threads == 1 || n_threads > kMaxThreads || n_items <= grain)
    return pool.parallel_for(n_items, grain, [&](int, int64_t begin, int64_t end) { fn(begin, end); });
  const int64_t n_chunks = (n_items + grain - 1) / grain;
  std::array<Share, kMaxThreads> shares;
  for (int i = 0; i < n_threads; ++i) {
    shares[i].next.store(n_chunks * i / n_threads, std::memory_order_relaxed);
    shares[i].end = n_chunks * (i + 1) / n_threads;
  }
  pool.run([&](int thread) {
    for (int i = 0; i < n_threads; ++i) {
      Share& share = shares[(thread + i) % n_threads];
      for (;;) {
        const int64_t chunk = share.next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= share.end) break;
        fn(chunk * grain, std::min((chunk + 1) * grain, n_items));
      }
    }
  });
}

}  // namespace

void run_linear(ThreadPool& pool, Isa isa, std::span<const LinearJob> jobs) {
  const LinearKernels& kernels = linear_kernels(isa);
  int64_t n_panels = 0;
  int n_tokens = 0;
  bool tiles = false;
  for (const LinearJob& job : jobs) {
    check_job(job);
    n_panels += job.weight->n_panels();
    n_tokens = std::max(n_tokens, job.input.n_tokens);
    tiles = tiles || job.input.tiles.tiles != nullptr;
  }
  const auto run_job = [&](const LinearJob& job, int64_t begin, int64_t end) {
    const QuantType type = job.weight->type();
    const TileKernel by_tiles = job.input.tiles.tiles == nullptr ? nullptr : kernels.tiles->kernel_for(type);
    if (by_tiles != nullptr)
      run_panels_by_tiles(by_tiles, job, begin, end);
    else
      run_panels(kernels, job, begin, end);
  };
  const int64_t grain =
      tiles ? panels_of_tile_chunk(n_panels, pool.size()) : panels_of_chunk(n_panels, n_tokens, pool.size());
  run_shares(pool, n_panels, grain, [&](int64_t begin, int64_t end) {
    for (const LinearJob& job : jobs) {
      const int64_t n = job.weight->n_panels();
      if (begin < n && end > 0) run_job(job, std::max<int64_t>(begin, 0), std::min(end, n));
      begin -= n;
      end -= n;
    }
  });
}

}  // namespace spate::cpu
