// The linear kernels with AMX: products of many tokens by tiles of bfloat16 (linear_tiles.h). Steps of fewer tokens are
// AVX-512's.
//
// Where the time goes, for two panels x 256 columns (8192 weights of Q4_K) and T tokens: 256 T / 16 cycles in the
// tiles, and some 1900 in the vector units to decode the weights. The decoding of the next two panels is therefore
// spread out between the tiles of these, which keep their unit busy meanwhile. On a core of a Xeon (2026-11) that gains
// 5 % over decoding first with 64 tokens, 2 to 11 % with 128, nothing with 512.
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
// clang-format on

// The operand of _tile_loadconfig: Intel SDM, "LDTILECFG". All eight tiles of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles: sums of 2 x 16 tokens with 2 panels, activations of 2 x 16 tokens, weights of 2 panels. The intrinsics want
// literal numbers.
#define SPATE_SUMS_00 0
#define SPATE_SUMS_01 1
#define SPATE_SUMS_10 2
#define SPATE_SUMS_11 3
#define SPATE_TOKENS_0 4
#define SPATE_TOKENS_1 5
#define SPATE_WEIGHTS_0 6
#define SPATE_WEIGHTS_1 7

// To gcc 12 _tile_loadconfig and _tile_loadd read no memory: stores meant for them would be dropped or come too late.
inline void finish_stores() {
  asm volatile("" ::: "memory");
}

// ---- float32 to bfloat16: the nearest, ties to even; NaN stays NaN

// Lanes of `low` in the lower half, of `high` in the upper.
inline Ints to_bf16(Floats low, Floats high) {
  return (Ints)_mm512_cvtne2ps_pbh(high, low);
}

inline void store_row(uint16_t* tile_row, Ints row) {
  _mm512_storeu_si512(tile_row, row);
}

void pack(const float* x, int64_t stride, int n_tokens, uint16_t* tile) {
  for (int t = 0; t < kTileTokens; ++t) {
    const float* row = x + t * stride;
    store_row(tile + t * kTileColumns,
              t < n_tokens ? to_bf16(load_floats(row), load_floats(row + kLanes)) : broadcast_int(0));
  }
}

// Tiles of sums, of 16 tokens x 16 rows.
constexpr int kSumsTile = kTileTokens * kPanelRows;

void pack_sums(const SumsToTiles& job) {
  for (int token_tile = 0; token_tile < job.n_token_tiles; ++token_tile)
    for (int step = 0; step < job.n_steps; ++step) {
      const float* sums = job.sums + (int64_t{step} * job.n_token_tiles + token_tile) * 2 * kSumsTile;
      uint16_t* tile = job.tiles + token_tile * job.token_tile_stride + step * kTileElems;
      for (int t = 0; t < kTileTokens; ++t, sums += kPanelRows)
        store_row(tile + t * kTileColumns, to_bf16(load_floats(sums), load_floats(sums + kSumsTile)));
    }
}

// ---- weights to tiles

constexpr int kTileRow = 2 * kPanelRows;  // elements: a pair of columns of 16 rows

// In a row of a tile the two columns of a weight row lie side by side, so a lane of float32 is (weight row, column of
// the pair), 8 rows a vector: rows 0 to 7 for the lower half of the tile's row, 8 to 15 for the upper.
struct PairLanes {
  Floats scale[2], base[2];  // by half of the rows
};

alignas(64) constexpr int32_t kRowOfLane[16] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
alignas(64) constexpr int32_t kCodeOfLane[16] = {0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29};

inline Floats twice(Floats of_rows, int half) {
  return _mm512_permutexvar_ps(add_ints(load_ints(kRowOfLane), broadcast_int(8 * half)), of_rows);
}

// Codes of fewer than 8 bits become float32 without a conversion: 0x43 in the highest byte and the code in the next is
// 128 + code. Those of 8 bits are converted from the same place, 2^16 times too large.
template <typename F>
constexpr bool kBytesAreFloats = !F::kSigned;
template <typename F>
constexpr float kCodeUnit = kBytesAreFloats<F> ? 1.0f : 0x1p-16f;
template <typename F>
constexpr float kTakenOff = kBytesAreFloats<F> ? 128.0f + kCodeOffset<F> : kCodeOffset<F>;

// Columns 2 pair and 2 pair + 1 of a group of four, of eight rows.
template <typename F>
Floats code_lanes(Bytes codes, int half, int pair) {
  const Ints from = shift_left<16>(add_ints(load_ints(kCodeOfLane), broadcast_int(32 * half + 2 * pair)));
  constexpr __mmask64 kThirdBytes = 0x4444444444444444;
  if constexpr (kBytesAreFloats<F>)
    return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(broadcast_int(0x43000000), kThirdBytes, from, codes));
  else
    return to_floats(_mm512_maskz_permutexvar_epi8(kThirdBytes, from, codes));
}

template <typename F>
PairLanes pair_lanes(const Scales& scales, int which) {
  const Floats scale = scales.scale[which];
  Floats base = mul(scale, broadcast(-kTakenOff<F>));
  if constexpr (F::kMinimum > 0) base = add(base, scales.minimum[which]);
  if constexpr (F::kMinimum < 0) base = _mm512_sub_ps(base, scales.minimum[which]);
  const Floats unit = mul(scale, broadcast(kCodeUnit<F>));
  return {.scale = {twice(unit, 0), twice(unit, 1)}, .base = {twice(base, 0), twice(base, 1)}};
}

// 32 columns of a panel: w = scale * (code + kTakenOff) + base. That is the weight to 2^-16 of its scale, before
// rounding.
template <typename F>
void decode_step(const PanelCodes<F::kBits>& stored, const Scales& scales, uint16_t* tile) {
  constexpr int kScales = 32 / F::kScaleColumns;
  PairLanes lanes[kScales];
  for (int i = 0; i < kScales; ++i) lanes[i] = pair_lanes<F>(scales, i);
  Bytes codes[8];
  decode_codes<F>(stored, 0, codes);
#pragma GCC unroll 16
  for (int i = 0; i < kTileColumns / 2; ++i) {
    const PairLanes& l = lanes[i * kScales / 16];
    store_row(tile + i * kTileRow, to_bf16(fma(code_lanes<F>(codes[i / 2], 0, i % 2), l.scale[0], l.base[0]),
                                           fma(code_lanes<F>(codes[i / 2], 1, i % 2), l.scale[1], l.base[1])));
  }
}

// Steps of 32 columns a panel block, and the bytes of a step (the scales of a superblock shared out among its steps).
template <QuantType type>
constexpr int steps_of_block() {
  if constexpr (kIsFloat<type>)
    return 1;
  else
    return sizeof(PanelBlock<type>::codes) / sizeof(PanelBlock<type>::codes[0]);
}
template <QuantType type>
constexpr int64_t kStepBytes = kIsFloat<type> ? kTileColumns* int64_t{sizeof(PanelBlock<type>)}
                                              : int64_t{sizeof(PanelBlock<type>)} / steps_of_block<type>();

// A step of 32 columns of a panel; panel null: rows of zeros, beside the last of an odd number of panels.
struct StepAt {
  const std::byte* panel;
  int64_t step;
};

// The lower half of the lanes and the upper one, in turns.
inline Ints side_by_side(Ints halves) {
  alignas(64) static constexpr int32_t kFromLower[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Ints from = or_ints(load_ints(kFromLower), shift_left<16>(add_ints(load_ints(kFromLower), broadcast_int(16))));
  return _mm512_permutexvar_epi16(from, halves);
}

template <QuantType type>
void decode_float_step(const PanelBlock<type>* columns, uint16_t* tile) {
  for (int c = 0; c < kTileColumns; c += 2, tile += kTileRow) {
    Floats even, odd;
    if constexpr (type == QuantType::kF16)
      even = load_f16(columns[c].value), odd = load_f16(columns[c + 1].value);
    else
      even = load_bf16(columns[c].value), odd = load_bf16(columns[c + 1].value);
    store_row(tile, side_by_side(to_bf16(even, odd)));
  }
}

// `ahead`: a step that is decoded some thousand cycles later.
template <QuantType type>
void decode_tile(StepAt at, StepAt ahead, uint16_t* tile) {
  if (at.panel == nullptr) {
    for (int i = 0; i < kTileElems; i += kTileRow) store_row(tile + i, broadcast_int(0));
    return;
  }
  if (ahead.panel != nullptr)
    for (int64_t byte = 0; byte < kStepBytes<type>; byte += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead.panel) + ahead.step * kStepBytes<type> + byte, _MM_HINT_T1);
  const auto* blocks = reinterpret_cast<const PanelBlock<type>*>(at.panel);
  if constexpr (kIsFloat<type>) {
    decode_float_step<type>(blocks + at.step * kTileColumns, tile);
  } else {
    using F = Format<type>;
    constexpr int kSteps = steps_of_block<type>();
    const PanelBlock<type>& block = blocks[at.step / kSteps];
    const int sub = static_cast<int>(at.step % kSteps);
    Scales scales;
    F::scales(block, F::header(block, 0), sub, 0, scales);
    decode_step<F>(block.codes[sub], scales, tile);
  }
}

// ---- the products

void configure_tiles() {
  alignas(64) static constexpr TileConfig kConfig;
  finish_stores();
  _tile_loadconfig(&kConfig);
}

// Tiles of weights, [step][panel of the pair].
struct alignas(64) WeightTiles {
  uint16_t tile[kTileSteps][2][kTileElems];
};

// sums[token tile][panel of the pair], tiles of [16 tokens][16 rows], of 32 tokens: += x * w. The tile products of a
// step are four independent chains, which a latency of 52 cycles at one in 16 asks for.
void multiply_32_tokens(const uint16_t* x, const WeightTiles& w, int n_steps, bool first, float* sums) {
  constexpr int kRowBytes = 64;
  finish_stores();
  if (first) {
    _tile_zero(SPATE_SUMS_00);
    _tile_zero(SPATE_SUMS_01);
    _tile_zero(SPATE_SUMS_10);
    _tile_zero(SPATE_SUMS_11);
  } else {
    _tile_loadd(SPATE_SUMS_00, sums, kRowBytes);
    _tile_loadd(SPATE_SUMS_01, sums + kSumsTile, kRowBytes);
    _tile_loadd(SPATE_SUMS_10, sums + 2 * kSumsTile, kRowBytes);
    _tile_loadd(SPATE_SUMS_11, sums + 3 * kSumsTile, kRowBytes);
  }
  const uint16_t* second = x + n_steps * kTileElems;
  for (int step = 0; step < n_steps; ++step) {
    _tile_loadd(SPATE_WEIGHTS_0, w.tile[step][0], kRowBytes);
    _tile_loadd(SPATE_TOKENS_0, x + step * kTileElems, kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_00, SPATE_TOKENS_0, SPATE_WEIGHTS_0);
    _tile_loadd(SPATE_WEIGHTS_1, w.tile[step][1], kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_01, SPATE_TOKENS_0, SPATE_WEIGHTS_1);
    _tile_loadd(SPATE_TOKENS_1, second + step * kTileElems, kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_10, SPATE_TOKENS_1, SPATE_WEIGHTS_0);
    _tile_dpbf16ps(SPATE_SUMS_11, SPATE_TOKENS_1, SPATE_WEIGHTS_1);
  }
  _tile_stored(SPATE_SUMS_00, sums, kRowBytes);
  _tile_stored(SPATE_SUMS_01, sums + kSumsTile, kRowBytes);
  _tile_stored(SPATE_SUMS_10, sums + 2 * kSumsTile, kRowBytes);
  _tile_stored(SPATE_SUMS_11, sums + 3 * kSumsTile, kRowBytes);
}

// The same of 16 tokens, the last of an odd number of token tiles.
void multiply_16_tokens(const uint16_t* x, const WeightTiles& w, int n_steps, bool first, float* sums) {
  constexpr int kRowBytes = 64;
  finish_stores();
  if (first) {
    _tile_zero(SPATE_SUMS_00);
    _tile_zero(SPATE_SUMS_01);
  } else {
    _tile_loadd(SPATE_SUMS_00, sums, kRowBytes);
    _tile_loadd(SPATE_SUMS_01, sums + kSumsTile, kRowBytes);
  }
  for (int step = 0; step < n_steps; ++step) {
    _tile_loadd(SPATE_TOKENS_0, x + step * kTileElems, kRowBytes);
    _tile_loadd(SPATE_WEIGHTS_0, w.tile[step][0], kRowBytes);
    _tile_loadd(SPATE_WEIGHTS_1, w.tile[step][1], kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_00, SPATE_TOKENS_0, SPATE_WEIGHTS_0);
    _tile_dpbf16ps(SPATE_SUMS_01, SPATE_TOKENS_0, SPATE_WEIGHTS_1);
  }
  _tile_stored(SPATE_SUMS_00, sums, kRowBytes);
  _tile_stored(SPATE_SUMS_01, sums + kSumsTile, kRowBytes);
}

// What a call goes through: the blocks of up to kTileSteps steps of two panels, the panels of a K block one after the
// other, so that all find the activations of the block in the second-level cache.
class Blocks {
 public:
  explicit Blocks(const TileProduct& p)
      : p_(p),
        n_steps_(p.n_cols / kTileColumns),
        n_pairs_((p.n_panels + 1) / 2),
        n_token_tiles_(tiles_of(p.n_tokens)) {}

  static int tiles_of(int n_tokens) { return (n_tokens + kTileTokens - 1) / kTileTokens; }
  int64_t size() const { return (n_steps_ + kTileSteps - 1) / kTileSteps * n_pairs_; }
  int n_token_tiles() const { return n_token_tiles_; }

  bool is_first(int64_t block) const { return block < n_pairs_; }  // of its rows
  int n_steps(int64_t block) const {
    const int64_t rest = n_steps_ - first_step(block);
    return static_cast<int>(rest < kTileSteps ? rest : kTileSteps);
  }
  // Of panel 0 or 1 of the block; null past the last panel, and for blocks past the last one.
  StepAt step_at(int64_t block, int step, int panel) const {
    const int64_t index = block % n_pairs_ * 2 + panel;
    const bool exists = block < size() && index < p_.n_panels && step < n_steps(block);
    return {.panel = exists ? p_.panels + index * p_.panel_bytes : nullptr, .step = first_step(block) + step};
  }
  const uint16_t* x(int64_t block, int token_tile) const {
    const int64_t tile =
        first_step(block) * p_.x.n_token_tiles + int64_t{p_.first_token / kTileTokens + token_tile} * n_steps(block);
    return p_.x.tiles + tile * kTileElems;
  }
  float* sums(int64_t block, int token_tile) const {
    return p_.sums + sums_at(static_cast<int>(block % n_pairs_), token_tile);
  }
  // [pair of panels][token tile][panel of the pair][16 tokens][16 rows]
  int64_t sums_at(int pair, int token_tile) const {
    return (int64_t{pair} * n_token_tiles_ + token_tile) * 2 * kSumsTile;
  }

 private:
  int64_t first_step(int64_t block) const { return block / n_pairs_ * kTileSteps; }

  const TileProduct& p_;
  int64_t n_steps_;
  int n_pairs_, n_token_tiles_;
};

// Decodes a block tile by tile, as many as the caller has time for.
template <QuantType type>
class Decoder {
 public:
  Decoder(const Blocks& blocks, int64_t block, WeightTiles& out)
      : blocks_(blocks), block_(block), n_tiles_(block < blocks.size() ? 2 * blocks.n_steps(block) : 0), out_(out) {}

  // Until part / n_parts of the block is done.
  void advance(int part, int n_parts) {
    for (const int end = (n_tiles_ * part + n_parts - 1) / n_parts; n_done_ < end; ++n_done_) {
      const int step = n_done_ / 2, panel = n_done_ % 2;
      decode_tile<type>(blocks_.step_at(block_, step, panel), blocks_.step_at(block_ + 1, step, panel),
                        out_.tile[step][panel]);
    }
  }

 private:
  const Blocks& blocks_;
  int64_t block_;
  int n_tiles_, n_done_ = 0;
  WeightTiles& out_;
};

void finish(const TileProduct& p, const Blocks& blocks) {
  PanelProduct rows{.n_tokens = p.n_tokens, .y_stride = p.y_stride, .accumulate = p.accumulate};
  for (int t = 0; t < p.n_tokens; ++t)
    for (int panel = 0; panel < p.n_panels; ++panel) {
      const int64_t first_row = int64_t{panel} * kPanelRows, rest = p.n_rows - first_row;
      rows.bias = p.bias == nullptr ? nullptr : p.bias + first_row;
      rows.y = p.y + first_row;
      rows.n_valid = static_cast<int>(rest < kPanelRows ? rest : kPanelRows);
      const int64_t in_tile = (panel % 2 * kTileTokens + t % kTileTokens) * kPanelRows;
      finish_token(rows, t, p.sums + blocks.sums_at(panel / 2, t / kTileTokens) + in_tile);
    }
}

template <QuantType type>
void tile_product(const TileProduct& p) {
  const Blocks blocks(p);
  WeightTiles weights[2];
  Decoder<type>(blocks, 0, weights[0]).advance(1, 1);
  configure_tiles();
  const int n_token_tiles = blocks.n_token_tiles();
  for (int64_t block = 0; block < blocks.size(); ++block) {
    const WeightTiles& w = weights[block % 2];
    Decoder<type> next(blocks, block + 1, weights[(block + 1) % 2]);
    const int n_steps = blocks.n_steps(block);
    const bool first = blocks.is_first(block);
    for (int tile = 0; tile < n_token_tiles; tile += 2) {
      if (tile + 1 < n_token_tiles)
        multiply_32_tokens(blocks.x(block, tile), w, n_steps, first, blocks.sums(block, tile));
      else
        multiply_16_tokens(blocks.x(block, tile), w, n_steps, first, blocks.sums(block, tile));
      next.advance(tile + 2 < n_token_tiles ? tile + 2 : n_token_tiles, n_token_tiles);
    }
  }
  _tile_release();
  if (p.y != nullptr) finish(p, blocks);
}

template <QuantType type>
constexpr TileKernel tile_kernel() {
  if constexpr (type == QuantType::kF32)
    return nullptr;
  else
    return tile_product<type>;
}

TileKernel tile_kernel_for(QuantType type) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return tile_kernel<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  return nullptr;
}

}  // namespace

const LinearKernels& amx_linear_kernels() {
  static constexpr TileKernels kTiles = {.kernel_for = tile_kernel_for, .pack = pack, .pack_sums = pack_sums};
  static const LinearKernels kKernels = {
      .kernel_for = avx512_linear_kernels().kernel_for, .quantize = avx512_linear_kernels().quantize, .tiles = &kTiles};
  return kKernels;
}

}  // namespace spate::cpu
