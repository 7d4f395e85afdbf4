// The linear kernels with AMX: integer formats that have one scale per 32 columns, at many tokens. The tiles compute
// the integer sums; all else is AVX-512's. The gain is small because the sums of each 32 columns must still be scaled
// in float32, which costs AVX-512 about as much as the products do; formats with a scale per 16 gain nothing.
#include <immintrin.h>

#include "backend/cpu/linear_kernels.h"
#include "quant/iq4_nl.h"

namespace spate::cpu {

namespace {

// Each builds on the ones before it.
// clang-format off
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/linear_formats.inl"
#include "backend/cpu/linear_integer.inl"
#include "backend/cpu/linear_quantize.inl"
// clang-format on

constexpr int kTileTokens = 16;
static_assert(kActivationPadding >= kTileTokens - 1);
static_assert(kTokenBlock % kTileTokens == 0);

// The operand of _tile_loadconfig: Intel SDM, "LDTILECFG".
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles: sums of 16 tokens x 16 rows of the panel, the activations of 16 tokens x 32 columns they come from, two of
// each, and codes of 32 columns x 16 rows. The intrinsics want literal numbers.
#define SPATE_SUMS_0 0
#define SPATE_SUMS_1 1
#define SPATE_TOKENS_0 2
#define SPATE_TOKENS_1 3
#define SPATE_CODES 4

// To gcc 12 _tile_loadconfig and _tile_loadd read no memory: stores meant for them would be dropped or come too late.
inline void finish_stores() {
  asm volatile("" ::: "memory");
}

void configure_tiles() {
  alignas(64) TileConfig config;
  for (int tile = SPATE_SUMS_0; tile <= SPATE_TOKENS_1; ++tile) {
    config.rows[tile] = kTileTokens;
    config.row_bytes[tile] = tile <= SPATE_SUMS_1 ? 4 * kPanelRows : kActivationBlock;
  }
  config.rows[SPATE_CODES] = kActivationBlock / 4;
  config.row_bytes[SPATE_CODES] = 4 * kPanelRows;
  finish_stores();
  _tile_loadconfig(&config);
}

// Codes of a step: 8 groups of 4 columns, each 16 rows x 4.
struct alignas(64) StepCodes {
  uint8_t group[8][64];
};
struct alignas(64) TileSums {
  int32_t sum[kTileTokens][kPanelRows];
};

// Tokens x[0..15] times the codes.
void multiply_tile(const ActivationBlock* x, TileSums& sums) {
  _tile_zero(SPATE_SUMS_0);
  _tile_loadd(SPATE_TOKENS_0, x->q, sizeof(ActivationBlock));
  _tile_dpbsud(SPATE_SUMS_0, SPATE_TOKENS_0, SPATE_CODES);
  _tile_stored(SPATE_SUMS_0, sums.sum, 64);
}

// x[0..31]: one product's latency (52 cycles) hides behind the other's. More in flight, or products issued ahead of the
// scaling of the ones before, brought nothing (Xeon of model 207, 2.1 GHz, Q4_K, 4096 columns, 2026-11).
void multiply_two_tiles(const ActivationBlock* x, TileSums* sums) {
  _tile_zero(SPATE_SUMS_0);
  _tile_zero(SPATE_SUMS_1);
  _tile_loadd(SPATE_TOKENS_0, x->q, sizeof(ActivationBlock));
  _tile_dpbsud(SPATE_SUMS_0, SPATE_TOKENS_0, SPATE_CODES);
  _tile_loadd(SPATE_TOKENS_1, x[kTileTokens].q, sizeof(ActivationBlock));
  _tile_dpbsud(SPATE_SUMS_1, SPATE_TOKENS_1, SPATE_CODES);
  _tile_stored(SPATE_SUMS_0, sums[0].sum, 64);
  _tile_stored(SPATE_SUMS_1, sums[1].sum, 64);
}

template <typename F>
void accumulate_tile(const TileSums& sums, int n_tokens, const Scales& scales, const ActivationBlock* x,
                     float* results) {
  for (int t = 0; t < n_tokens; ++t) {
    RawSums raw;
    raw.half[0] = load_ints(sums.sum[t]);
    float* acc = results + t * kPanelRows;
    store_floats(acc, accumulate<F>(raw, scales, x[t], load_floats(acc)));
  }
}

// All tokens times the codes of one step. A last tile of fewer tokens computes the whole 16: the padding behind the
// activations makes that safe, and the sums are not used.
template <typename F>
void multiply_step(const StepCodes& codes, const Scales& scales, const ActivationBlock* x, int n_tokens,
                   float* results) {
  TileSums sums[2];
  finish_stores();
  _tile_loadd(SPATE_CODES, codes.group, 64);
  int t = 0;
  for (; t + 2 * kTileTokens <= n_tokens; t += 2 * kTileTokens) {
    multiply_two_tiles(x + t, sums);
    for (int i = 0; i < 2; ++i) {
      const int first = t + i * kTileTokens;
      accumulate_tile<F>(sums[i], kTileTokens, scales, x + first, results + first * kPanelRows);
    }
  }
  for (; t < n_tokens; t += kTileTokens) {
    multiply_tile(x + t, sums[0]);
    const int rest = n_tokens - t < kTileTokens ? n_tokens - t : kTileTokens;
    accumulate_tile<F>(sums[0], rest, scales, x + t, results + t * kPanelRows);
  }
}

template <QuantType type>
void amx_panel_product(const PanelProduct& p) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);
  const int64_t n_blocks = p.n_cols / (kSteps * kActivationBlock);
  alignas(64) float results[kTokenBlock * kPanelRows];
  for (int t = 0; t < p.n_tokens; ++t) store_floats(results + t * kPanelRows, zero_floats());

  configure_tiles();
  const ActivationBlock* x = p.blocks;
  for (int64_t i = 0; i < n_blocks; ++i) {
    const Block& block = reinterpret_cast<const Block*>(p.panel)[i];
    const auto header = F::header(block, 0);
    for (int step = 0; step < kSteps; ++step, x += p.block_stride) {
      Scales scales;
      F::scales(block, header, step, 0, scales);
      Bytes decoded[8];
      decode_codes<F>(block.codes[step], 0, decoded);
      StepCodes codes;
      for (int g = 0; g < 8; ++g) store_bytes(codes.group[g], decoded[g]);
      multiply_step<F>(codes, scales, x, p.n_tokens, results);
    }
  }
  _tile_release();
  for (int t = 0; t < p.n_tokens; ++t) finish_token(p, t, results + t * kPanelRows);
}

template <QuantType type>
constexpr bool takes_tiles() {
  if constexpr (kIsFloat<type>)
    return false;
  else
    return Format<type>::kScaleColumns == kActivationBlock;
}

template <QuantType type>
void panel_product(const PanelProduct& p) {
  if constexpr (takes_tiles<type>())
    if (p.n_tokens >= kAmxMinTokens) return amx_panel_product<type>(p);
  avx512_linear_kernels().kernel_for(type)(p);  // the same bits
}

#include "backend/cpu/linear_table.inl"

}  // namespace

const LinearKernels& amx_linear_kernels() {
  static constexpr LinearKernels kKernels = {.kernel_for = kernel_for, .quantize = quantize};
  return kKernels;
}

}  // namespace spate::cpu
