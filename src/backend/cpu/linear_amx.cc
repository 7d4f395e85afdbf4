// The linear kernels with AMX: integer formats at many tokens. The tiles compute the integer sums; all else is
// AVX-512's.
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

// Tiles 0..3: sums of 16 tokens x 16 rows of the panel. Tiles 4..7: activations of 16 tokens (4, 6) and codes (5, 7),
// of all 32 columns of a step in formats with a scale per 32, else 4 and 5 the first 16 columns, 6 and 7 the rest.
template <typename F>
void configure_tiles() {
  alignas(64) TileConfig config;
  for (int tile = 0; tile < 4; ++tile) {
    config.rows[tile] = kTileTokens;
    config.row_bytes[tile] = 64;
  }
  for (int tile = 4; tile < 8; tile += 2) {
    config.rows[tile] = kTileTokens;
    config.row_bytes[tile] = F::kScaleColumns;
    config.rows[tile + 1] = F::kScaleColumns / 4;
    config.row_bytes[tile + 1] = 64;
  }
  // gcc 12 does not know that the instruction reads memory and would drop the stores above.
  asm volatile("" ::: "memory");
  _tile_loadconfig(&config);
}

// Codes of a step: 8 groups of 4 columns, each 16 rows x 4.
struct alignas(64) StepCodes {
  uint8_t group[8][64];
};
// Sums of up to 4 tiles.
struct alignas(64) TileSums {
  int32_t tile[4][kTileTokens][kPanelRows];
};

template <typename F>
void load_codes(const StepCodes& codes) {
  _tile_loadd(5, codes.group[0], 64);
  if constexpr (F::kScaleColumns == 16) _tile_loadd(7, codes.group[4], 64);
}

// Tokens x[0..15] into tile 0, or tiles 0 and 1 a half each; x[16..31] into the next; and so on.
template <typename F>
void multiply_tile(const ActivationBlock* x, TileSums& sums) {
  constexpr int kStride = sizeof(ActivationBlock);
  _tile_zero(0);
  _tile_loadd(4, x->q, kStride);
  _tile_dpbsud(0, 4, 5);
  if constexpr (F::kScaleColumns == 16) {
    _tile_zero(1);
    _tile_loadd(6, x->q + 16, kStride);
    _tile_dpbsud(1, 6, 7);
    _tile_stored(1, sums.tile[1], 64);
  }
  _tile_stored(0, sums.tile[0], 64);
}

// The same for twice the tokens, so that one product's latency (52 cycles) hides behind the other's.
template <typename F>
void multiply_two_tiles(const ActivationBlock* x, TileSums& sums) {
  constexpr int kStride = sizeof(ActivationBlock);
  const ActivationBlock* next = x + kTileTokens;
  if constexpr (F::kScaleColumns == 32) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, x->q, kStride);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(6, next->q, kStride);
    _tile_dpbsud(1, 6, 5);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, x->q, kStride);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(6, x->q + 16, kStride);
    _tile_dpbsud(1, 6, 7);
    _tile_loadd(4, next->q, kStride);
    _tile_dpbsud(2, 4, 5);
    _tile_loadd(6, next->q + 16, kStride);
    _tile_dpbsud(3, 6, 7);
    _tile_stored(2, sums.tile[2], 64);
    _tile_stored(3, sums.tile[3], 64);
  }
  _tile_stored(0, sums.tile[0], 64);
  _tile_stored(1, sums.tile[1], 64);
}

template <typename F>
void accumulate_tile(const TileSums& sums, int first_tile, int n_tokens, const Scales& scales, const ActivationBlock* x,
                     float* results) {
  for (int t = 0; t < n_tokens; ++t) {
    RawSums raw;
    raw.half[0] = load_ints(sums.tile[first_tile][t]);
    if constexpr (F::kScaleColumns == 16) raw.half[1] = load_ints(sums.tile[first_tile + 1][t]);
    float* acc = results + t * kPanelRows;
    store_floats(acc, accumulate<F>(raw, scales, x[t], load_floats(acc)));
  }
}

// All tokens times the codes of one step. A last tile of fewer tokens computes the whole 16: the padding behind the
// activations makes that safe, and the sums are not used.
template <typename F>
void multiply_step(const StepCodes& codes, const Scales& scales, const ActivationBlock* x, int n_tokens,
                   float* results) {
  constexpr int kTilesPerToken = 32 / F::kScaleColumns;
  TileSums sums;
  load_codes<F>(codes);
  int t = 0;
  for (; t + 2 * kTileTokens <= n_tokens; t += 2 * kTileTokens) {
    multiply_two_tiles<F>(x + t, sums);
    for (int i = 0; i < 2; ++i) {
      const int first = t + i * kTileTokens;
      accumulate_tile<F>(sums, i * kTilesPerToken, kTileTokens, scales, x + first, results + first * kPanelRows);
    }
  }
  for (; t < n_tokens; t += kTileTokens) {
    multiply_tile<F>(x + t, sums);
    const int rest = n_tokens - t < kTileTokens ? n_tokens - t : kTileTokens;
    accumulate_tile<F>(sums, 0, rest, scales, x + t, results + t * kPanelRows);
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

  configure_tiles<F>();
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
void panel_product(const PanelProduct& p) {
  if constexpr (!kIsFloat<type>)
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
