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

ActivationBuffer::ActivationBuffer(int max_tokens, int max_cols) : max_tokens_(max_tokens), max_cols_(max_cols) {
  const size_t n_blocks = static_cast<size_t>(max_cols / kActivationBlock) * max_tokens + kActivationPadding;
  std::byte* memory = allocate(n_blocks * sizeof(ActivationBlock), 64);
  std::memset(memory, 0, n_blocks * sizeof(ActivationBlock));
  blocks_.reset(reinterpret_cast<ActivationBlock*>(memory));
}

void ActivationBuffer::Free::operator()(ActivationBlock* memory) const {
  std::free(memory);
}

Activations ActivationBuffer::fill(ThreadPool& pool, Isa isa, const float* x, int n_tokens, int n_cols,
                                   bool need_int8) {
  SPATE_CHECK(n_tokens <= max_tokens_ && n_cols <= max_cols_, "{} x {} activations in a buffer for {} x {}", n_tokens,
              n_cols, max_tokens_, max_cols_);
  if (!need_int8) return {.x = x, .n_tokens = n_tokens, .n_cols = n_cols};
  SPATE_CHECK(n_cols % kActivationBlock == 0, "{} columns for weights of integer qblocks", n_cols);
  const LinearKernels& kernels = kernels_of(isa);
  const int64_t row_blocks = n_cols / kActivationBlock;
  ActivationBlock* blocks = blocks_.get();
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
  return {.x = x, .blocks = blocks, .n_tokens = n_tokens, .n_cols = n_cols};
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
  SPATE_CHECK(job.input.n_cols == job.weight->n_cols(), "{} columns of activations, {} of weights", job.input.n_cols,
              job.weight->n_cols());
  SPATE_CHECK(
      job.input.n_tokens == 0 || (job.weight->takes_int8() ? job.input.blocks != nullptr : job.input.x != nullptr),
      "the activations lack what weights of {} take", quant_name(job.weight->type()));
  SPATE_CHECK(job.y_stride >= job.weight->n_rows() || job.input.n_tokens <= 1, "rows of y overlap");
}

// Where a thread re-lays the panels of borrowed matrices; grows to the largest panel and stays.
std::byte* panel_scratch(int64_t n_bytes) {
  thread_local std::vector<std::byte> scratch;
  if (static_cast<int64_t>(scratch.size()) < n_bytes + 64) scratch.resize(n_bytes + 64);
  const auto address = reinterpret_cast<uintptr_t>(scratch.data());
  return scratch.data() + (64 - address % 64) % 64;
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
void run_panels(const LinearKernels& kernels, const LinearJob& job, int64_t begin, int64_t end) {
  const PackedMatrix& weight = *job.weight;
  const PanelKernel kernel = kernels.kernel_for(weight.type());
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

}  // namespace

void run_linear(ThreadPool& pool, Isa isa, std::span<const LinearJob> jobs) {
  const LinearKernels& kernels = kernels_of(isa);
  int64_t n_panels = 0;
  for (const LinearJob& job : jobs) {
    check_job(job);
    n_panels += job.weight->n_panels();
  }
  // Enough chunks that a thread which was held up leaves little for the others to wait for; consecutive panels, so that
  // the processor's prefetching runs on from one to the next.
  constexpr int kChunksPerThread = 8;
  const int64_t grain = std::max<int64_t>(1, n_panels / (int64_t{kChunksPerThread} * pool.size()));
  pool.parallel_for(n_panels, grain, [&](int, int64_t begin, int64_t end) {
    for (const LinearJob& job : jobs) {
      const int64_t n = job.weight->n_panels();
      if (begin < n && end > 0) run_panels(kernels, job, std::max<int64_t>(begin, 0), std::min(end, n));
      begin -= n;
      end -= n;
    }
  });
}

}  // namespace spate::cpu
