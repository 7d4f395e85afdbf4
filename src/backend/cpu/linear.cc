#include "backend/cpu/linear.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "backend/cpu/linear_kernels.h"
#include "backend/cpu/panel_pack.h"
#include "base/check.h"

namespace spate::cpu {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// The one table from instruction set to kernels.
const LinearKernels& kernels_of(Isa isa) {
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

std::byte* allocate(size_t n_bytes, size_t alignment) {
  void* memory = std::aligned_alloc(alignment, std::max((n_bytes + alignment - 1) / alignment, size_t{1}) * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

// Weights are read from end to end for every token: with 4 KB pages the walks of the page tables show.
std::byte* allocate_panels(size_t n_bytes) {
  const size_t alignment = n_bytes >= kHugePage ? kHugePage : 64;
  std::byte* memory = allocate(n_bytes, alignment);
#if defined(__linux__)
  if (alignment == kHugePage) madvise(memory, n_bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace

namespace {

int64_t token_tiles_of(int64_t n_tokens) {
  return (n_tokens + kTileTokens - 1) / kTileTokens;
}

}  // namespace

ActivationBuffer::ActivationBuffer(int max_tokens, int max_cols, int tile_min_tokens)
    : max_tokens_(max_tokens), max_cols_(max_cols), tile_min_tokens_(tile_min_tokens) {
  const int64_t col_blocks = max_cols / kActivationBlock;
  static_assert(kTileColumns == kActivationBlock);
  const int64_t block_bytes = col_blocks * max_tokens * int64_t{sizeof(ActivationBlock)};
  const int64_t tile_bytes = col_blocks * token_tiles_of(max_tokens) * kTileElems * int64_t{sizeof(uint16_t)};
  memory_.reset(allocate(static_cast<size_t>(std::max(block_bytes, tile_bytes)), 64));
}

void ActivationBuffer::Free::operator()(std::byte* memory) const {
  std::free(memory);
}

TokenTiles ActivationBuffer::pack_tiles(ThreadPool& pool, const TileKernels& kernels, const float* x, int n_tokens,
                                        int n_cols) {
  auto* tiles = reinterpret_cast<uint16_t*>(memory_.get());
  const int64_t n_token_tiles = token_tiles_of(n_tokens), n_steps = n_cols / kTileColumns;
  const int64_t k_blocks = (n_steps + kTileSteps - 1) / kTileSteps;
  constexpr int64_t kChunk = 4;  // K blocks of 16 tokens: some 5 us
  pool.parallel_for(k_blocks * n_token_tiles, kChunk, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first_step = i / n_token_tiles * kTileSteps, token = i % n_token_tiles * kTileTokens;
      const int64_t steps = std::min<int64_t>(kTileSteps, n_steps - first_step);
      uint16_t* out = tiles + (first_step * n_token_tiles + i % n_token_tiles * steps) * kTileElems;
      for (int64_t step = 0; step < steps; ++step)
        kernels.pack(x + token * n_cols + (first_step + step) * kTileColumns, n_cols,
                     static_cast<int>(std::min<int64_t>(kTileTokens, n_tokens - token)), out + step * kTileElems);
    }
  });
  return {.tiles = tiles, .n_token_tiles = static_cast<int>(n_token_tiles)};
}

Activations ActivationBuffer::fill(ThreadPool& pool, Isa isa, const float* x, int n_tokens, int n_cols,
                                   bool need_int8) {
  SPATE_CHECK(n_tokens <= max_tokens_ && n_cols <= max_cols_, "{} x {} activations in a buffer for {} x {}", n_tokens,
              n_cols, max_tokens_, max_cols_);
  const LinearKernels& kernels = kernels_of(isa);
  Activations result{.x = x, .n_tokens = n_tokens, .n_cols = n_cols};
  if (kernels.tiles != nullptr && n_tokens >= tile_min_tokens_ && n_cols % kTileColumns == 0) {
    result.tiles = pack_tiles(pool, *kernels.tiles, x, n_tokens, n_cols);
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
  matrix.panels_.reset(allocate_panels(static_cast<size_t>(matrix.n_panels() * matrix.panel_bytes())));
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

void PackedMatrix::Free::operator()(std::byte* memory) const {
  std::free(memory);
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
  const bool present =
      job.weight->takes_int8() ? input.blocks != nullptr || input.tiles.tiles != nullptr : input.x != nullptr;
  SPATE_CHECK(input.n_tokens == 0 || present, "the activations lack what weights of {} take",
              quant_name(job.weight->type()));
  SPATE_CHECK(job.y_stride >= job.weight->n_rows() || input.n_tokens <= 1, "rows of y overlap");
}

// A thread's scratch memory for one use: grows to the largest that was asked for and stays.
class Scratch {
 public:
  template <typename T>
  T* at_least(int64_t n_bytes) {
    if (n_bytes > n_bytes_) {
      memory_.reset(allocate(static_cast<size_t>(n_bytes), 64));
      n_bytes_ = n_bytes;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  int64_t n_bytes_ = 0;
};

// Where a thread re-lays the panels of borrowed matrices.
std::byte* panel_scratch(int64_t n_bytes) {
  thread_local Scratch scratch;
  return scratch.at_least<std::byte>(n_bytes);
}

float* sums_scratch(int64_t n_elems) {
  thread_local Scratch scratch;
  return scratch.at_least<float>(n_elems * int64_t{sizeof(float)});
}

void run_panel(PanelKernel kernel, const LinearJob& job, const std::byte* panel, int64_t index, int first_token) {
  const Activations& input = job.input;
  const int64_t first_row = index * kPanelRows;
  kernel({.panel = panel,
          .n_cols = input.n_cols,
          .x = input.x == nullptr ? nullptr : input.x + int64_t{first_token} * input.n_cols,
          .blocks = input.blocks == nullptr ? nullptr : input.blocks + first_token,
          .block_stride = input.n_tokens,
          .n_tokens = std::min(kTokenBlock, input.n_tokens - first_token),
          .bias = job.bias == nullptr ? nullptr : job.bias + first_row,
          .y = job.y + first_token * job.y_stride + first_row,
          .y_stride = job.y_stride,
          .n_valid = static_cast<int>(std::min<int64_t>(kPanelRows, job.weight->n_rows() - first_row)),
          .accumulate = job.accumulate});
}

// Panels [begin, end) of one job. Tokens outside, panels inside: a block of activations serves several panels from the
// second-level cache. Not so where laying a panel out again for each token block would cost more.
void run_panels(PanelKernel kernel, const LinearJob& job, int64_t begin, int64_t end) {
  const PackedMatrix& weight = *job.weight;
  if (weight.memory_bytes() > 0) {
    for (int token = 0; token < job.input.n_tokens; token += kTokenBlock)
      for (int64_t i = begin; i < end; ++i) run_panel(kernel, job, weight.panel(i), i, token);
    return;
  }
  std::byte* scratch = panel_scratch(weight.panel_bytes());
  for (int64_t i = begin; i < end; ++i) {
    weight.lay_out_panel(i, scratch);
    for (int token = 0; token < job.input.n_tokens; token += kTokenBlock) run_panel(kernel, job, scratch, i, token);
  }
}

// The same by tiles, kTilePanels at a time.
void run_panels_by_tiles(TileKernel kernel, const LinearJob& job, int64_t begin, int64_t end) {
  const PackedMatrix& weight = *job.weight;
  const Activations& input = job.input;
  constexpr int64_t kResults = int64_t{kTileBlockTokens} * kTilePanels * kPanelRows;
  const bool packed = weight.memory_bytes() > 0;
  for (; begin < end; begin += kTilePanels) {
    const auto n_panels = static_cast<int>(std::min<int64_t>(kTilePanels, end - begin));
    const int64_t first_row = begin * kPanelRows;
    TileProduct product{.panels = packed ? weight.panel(begin) : panel_scratch(n_panels * weight.panel_bytes()),
                        .panel_bytes = weight.panel_bytes(),
                        .n_panels = n_panels,
                        .n_cols = input.n_cols,
                        .x = input.tiles,
                        .bias = job.bias == nullptr ? nullptr : job.bias + first_row,
                        .y_stride = job.y_stride,
                        .n_rows = std::min<int64_t>(int64_t{n_panels} * kPanelRows, weight.n_rows() - first_row),
                        .accumulate = job.accumulate,
                        .sums = sums_scratch(kResults)};
    if (!packed)
      for (int64_t i = 0; i < n_panels; ++i)
        weight.lay_out_panel(begin + i, panel_scratch(0) + i * weight.panel_bytes());
    for (int token = 0; token < input.n_tokens; token += kTileBlockTokens) {
      product.first_token = token;
      product.n_tokens = std::min(kTileBlockTokens, input.n_tokens - token);
      product.y = job.y + token * job.y_stride + first_row;
      kernel(product);
    }
  }
}

// Enough chunks that a thread which was held up leaves little for the others to wait for; consecutive panels, so that
// the processor's prefetching runs on from one to the next.
int64_t panels_of_chunk(int64_t n_panels, int n_threads) {
  constexpr int kChunksPerThread = 8;
  return std::max<int64_t>(1, n_panels / (int64_t{kChunksPerThread} * n_threads));
}

// As many panels as a tile kernel takes, or fewer so that the threads have equal shares; pairs.
int64_t panels_of_tile_chunk(int64_t n_panels, int n_threads) {
  const int64_t share = (n_panels + n_threads - 1) / n_threads, n_rounds = (share + kTilePanels - 1) / kTilePanels;
  return n_rounds == 0 ? 2 : ((share + n_rounds - 1) / n_rounds + 1) / 2 * 2;
}

}  // namespace

void run_linear(ThreadPool& pool, Isa isa, std::span<const LinearJob> jobs) {
  const LinearKernels& kernels = kernels_of(isa);
  int64_t n_panels = 0;
  bool tiles = false;
  for (const LinearJob& job : jobs) {
    check_job(job);
    n_panels += job.weight->n_panels();
    tiles = tiles || job.input.tiles.tiles != nullptr;
  }
  const auto run_job = [&](const LinearJob& job, int64_t begin, int64_t end) {
    const QuantType type = job.weight->type();
    const TileKernel by_tiles = job.input.tiles.tiles == nullptr ? nullptr : kernels.tiles->kernel_for(type);
    if (by_tiles != nullptr)
      run_panels_by_tiles(by_tiles, job, begin, end);
    else
      run_panels(kernels.kernel_for(type), job, begin, end);
  };
  const int64_t grain = tiles ? panels_of_tile_chunk(n_panels, pool.size()) : panels_of_chunk(n_panels, pool.size());
  pool.parallel_for(n_panels, grain, [&](int, int64_t begin, int64_t end) {
    for (const LinearJob& job : jobs) {
      const int64_t n = job.weight->n_panels();
      if (begin < n && end > 0) run_job(job, std::max<int64_t>(begin, 0), std::min(end, n));
      begin -= n;
      end -= n;
    }
  });
}

}  // namespace spate::cpu
