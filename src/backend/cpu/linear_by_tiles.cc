#include "backend/cpu/linear_by_tiles.h"

#include <algorithm>

#include "backend/cpu/aligned_memory.h"
#include "base/check.h"

namespace spate::cpu {

namespace {

int64_t token_tiles_of(int64_t n_tokens) {
  return (n_tokens + kTileTokens - 1) / kTileTokens;
}

// Where the tiles of K block `first_step / kTileSteps` begin, of so many steps in all, for one token tile.
int64_t tile_offset(int64_t n_token_tiles, int64_t n_steps, int64_t first_step, int64_t token_tile) {
  const int64_t steps = std::min<int64_t>(kTileSteps, n_steps - first_step);
  return (first_step * n_token_tiles + token_tile * steps) * kTileElems;
}

constexpr int64_t kSumsElems = int64_t{kTileBlockTokens} * kTilePanels * kPanelRows;  // of any call

// Consecutive panels of one matrix times tokens, token block by token block.
class PanelGroup {
 public:
  // n_panels at most kTilePanels. A borrowed matrix is laid out in `scratch`.
  PanelGroup(const PackedMatrix& weight, TileKernel kernel, int64_t first_panel, int n_panels, Scratch& scratch)
      : kernel_(kernel),
        product_{.panels = weight.panel(first_panel),
                 .panel_bytes = weight.panel_bytes(),
                 .n_panels = n_panels,
                 .n_cols = weight.n_cols(),
                 .n_rows = std::min(int64_t{n_panels} * kPanelRows, weight.n_rows() - first_panel * kPanelRows)} {
    if (weight.memory_bytes() > 0) return;
    auto* panels = scratch.at_least<std::byte>(n_panels * weight.panel_bytes());
    for (int64_t i = 0; i < n_panels; ++i) weight.lay_out_panel(first_panel + i, panels + i * weight.panel_bytes());
    product_.panels = panels;
  }

  TileProduct product(TokenTiles x, int first_token, int n_tokens, float* sums) const {
    TileProduct product = product_;
    product.x = x;
    product.first_token = first_token;
    product.n_tokens = n_tokens;
    product.sums = sums;
    return product;
  }
  void run(const TileProduct& product) const { kernel_(product); }

 private:
  TileKernel kernel_;
  TileProduct product_;
};

// The steps of a gated product (two panels each) in shares that divide a K block: as large as a kernel takes, smaller
// where there are many threads; what is left over once all threads had equally many is cut so that all have a part of
// it. (qwen2.5-1.5b has 35 shares of 8 steps: of two threads one would wait for an eighteenth of the time.)
class GatedShares {
 public:
  GatedShares(int64_t n_steps, int n_threads) : n_steps_(n_steps) {
    while (steps_ > kLeast && n_steps / steps_ < 4 * n_threads) steps_ /= 2;
    n_whole_ = n_steps / steps_ / n_threads * n_threads;
    const int64_t rest = n_steps - n_whole_ * steps_;
    const auto longest = [&](int64_t steps) {  // of the threads' parts of the rest
      return (rest + steps * n_threads - 1) / (steps * n_threads) * steps;
    };
    rest_steps_ = steps_;
    for (int64_t steps = steps_ / 2; steps >= kLeast; steps /= 2)
      if (longest(steps) < longest(rest_steps_)) rest_steps_ = steps;
    n_rest_ = (rest + rest_steps_ - 1) / rest_steps_;
  }

  int64_t size() const { return n_whole_ + n_rest_; }
  // n_steps for the share after the last.
  int64_t first_step(int64_t share) const {
    if (share <= n_whole_) return share * steps_;
    return std::min(n_whole_ * steps_ + (share - n_whole_) * rest_steps_, n_steps_);
  }

 private:
  static constexpr int64_t kLeast = kTilePanels / 8;
  static_assert(kTileSteps % (kTilePanels / 2) == 0 && kTilePanels % 8 == 0);

  int64_t n_steps_, steps_ = kTilePanels / 2, rest_steps_, n_whole_, n_rest_;
};

// What becomes of the sums of `up`, those of `gate` being complete.
struct GatedSums {
  void (*gate_multiply)(float* gate, const float* up, int n);
  void (*pack_sums)(const float* sums, int n_token_tiles, uint16_t* tiles, int64_t stride);
  const float* up_sums;
  float* gate_sums;
  uint16_t* tiles;  // of the first pair of panels and token tile
  int64_t stride;   // of token tiles

  static void take(const void* context, int pair, int token_tile, int n_token_tiles, float* up) {
    const auto& self = *static_cast<const GatedSums*>(context);
    float* gate = self.gate_sums + (up - self.up_sums);  // both lie alike
    self.gate_multiply(gate, up, n_token_tiles * 2 * kTileTokens * kPanelRows);
    self.pack_sums(gate, n_token_tiles, self.tiles + token_tile * self.stride + pair * kTileElems, self.stride);
  }
};

}  // namespace

int64_t token_tiles_bytes(int64_t n_tokens, int64_t n_cols) {
  return token_tiles_of(n_tokens) * (n_cols / kTileColumns) * kTileElems * int64_t{sizeof(uint16_t)};
}

TokenTiles pack_tokens(ThreadPool& pool, const TileKernels& kernels, const float* x, int n_tokens, int n_cols,
                       uint16_t* tiles) {
  const int64_t n_token_tiles = token_tiles_of(n_tokens), n_steps = n_cols / kTileColumns;
  const int64_t k_blocks = (n_steps + kTileSteps - 1) / kTileSteps;
  constexpr int64_t kChunk = 4;  // K blocks of 16 tokens: some 5 us
  pool.parallel_for(k_blocks * n_token_tiles, kChunk, [&](int, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first_step = i / n_token_tiles * kTileSteps, token = i % n_token_tiles * kTileTokens;
      const int64_t last_step = std::min(first_step + kTileSteps, n_steps);
      uint16_t* out = tiles + tile_offset(n_token_tiles, n_steps, first_step, i % n_token_tiles);
      for (int64_t step = first_step; step < last_step; ++step, out += kTileElems)
        kernels.pack(x + token * n_cols + step * kTileColumns, n_cols,
                     static_cast<int>(std::min<int64_t>(kTileTokens, n_tokens - token)), out);
    }
  });
  return {.tiles = tiles, .n_token_tiles = static_cast<int>(n_token_tiles)};
}

// As many as a kernel takes, or fewer so that the threads have equal shares; pairs.
int64_t panels_of_tile_chunk(int64_t n_panels, int n_threads) {
  const int64_t share = (n_panels + n_threads - 1) / n_threads, n_rounds = (share + kTilePanels - 1) / kTilePanels;
  return n_rounds == 0 ? 2 : ((share + n_rounds - 1) / n_rounds + 1) / 2 * 2;
}

void run_panels_by_tiles(TileKernel kernel, const LinearJob& job, int64_t begin, int64_t end) {
  thread_local Scratch panels, sums;
  for (; begin < end; begin += kTilePanels) {
    const PanelGroup group(*job.weight, kernel, begin, static_cast<int>(std::min<int64_t>(kTilePanels, end - begin)),
                           panels);
    const int64_t first_row = begin * kPanelRows;
    for (int token = 0; token < job.input.n_tokens; token += kTileBlockTokens) {
      TileProduct product =
          group.product(job.input.tiles, token, std::min(kTileBlockTokens, job.input.n_tokens - token),
                        sums.at_least<float>(kSumsElems));
      product.bias = job.bias == nullptr ? nullptr : job.bias + first_row;
      product.y = job.y + token * job.y_stride + first_row;
      product.y_stride = job.y_stride;
      product.accumulate = job.accumulate;
      group.run(product);
    }
  }
}

bool takes_gated_tiles(Isa isa, const GatedJob& job) {
  const TileKernels* kernels = linear_kernels(isa).tiles;
  return job.input.tiles.tiles != nullptr && job.gate->n_rows() % kTileColumns == 0 &&
         kernels->kernel_for(job.gate->type()) != nullptr && kernels->kernel_for(job.up->type()) != nullptr;
}

Activations run_gated(ThreadPool& pool, Isa isa, const GatedJob& job, ActivationBuffer& out) {
  SPATE_CHECK(takes_gated_tiles(isa, job), "gated products of weights of {} and {}", quant_name(job.gate->type()),
              quant_name(job.up->type()));
  SPATE_CHECK(job.gate->n_rows() == job.up->n_rows(), "{} gates for {} rows", job.gate->n_rows(), job.up->n_rows());
  const TileKernels& kernels = *linear_kernels(isa).tiles;
  const TileKernel gate_kernel = kernels.kernel_for(job.gate->type()), up_kernel = kernels.kernel_for(job.up->type());
  const int n_tokens = job.input.n_tokens, n_cols = static_cast<int>(job.gate->n_rows());
  uint16_t* tiles = out.tile_memory(n_tokens, n_cols);
  const int64_t n_token_tiles = token_tiles_of(n_tokens), n_steps = n_cols / kTileColumns;

  const GatedShares shares(n_steps, pool.size());
  pool.parallel_for(shares.size(), 1, [&](int, int64_t begin, int64_t end) {
    thread_local Scratch gate_panels, up_panels, gate_scratch, up_scratch;
    float* gate_sums = gate_scratch.at_least<float>(kSumsElems);
    float* up_sums = up_scratch.at_least<float>(kSumsElems);
    for (int64_t share = begin; share < end; ++share) {
      const int64_t step = shares.first_step(share), first_step = step / kTileSteps * kTileSteps;
      const auto steps = static_cast<int>(shares.first_step(share + 1) - step);
      const PanelGroup gate(*job.gate, gate_kernel, 2 * step, 2 * steps, gate_panels);
      const PanelGroup up(*job.up, up_kernel, 2 * step, 2 * steps, up_panels);
      for (int token = 0; token < n_tokens; token += kTileBlockTokens) {
        const int block_tokens = std::min(kTileBlockTokens, n_tokens - token);
        const GatedSums gated{.gate_multiply = job.gate_multiply,
                              .pack_sums = kernels.pack_sums,
                              .up_sums = up_sums,
                              .gate_sums = gate_sums,
                              .tiles = tiles + tile_offset(n_token_tiles, n_steps, first_step, token / kTileTokens) +
                                       (step - first_step) * kTileElems,
                              .stride = std::min<int64_t>(kTileSteps, n_steps - first_step) * kTileElems};
        TileProduct gate_product = gate.product(job.input.tiles, token, block_tokens, gate_sums);
        gate_product.take = [](const void*, int, int, int, float*) {};  // they wait in gate_sums
        gate.run(gate_product);
        TileProduct up_product = up.product(job.input.tiles, token, block_tokens, up_sums);
        up_product.take = GatedSums::take;
        up_product.context = &gated;
        up.run(up_product);
      }
    }
  });
  return {.tiles = {.tiles = tiles, .n_token_tiles = static_cast<int>(n_token_tiles)},
          .n_tokens = n_tokens,
          .n_cols = n_cols};
}

}  // namespace spate::cpu
