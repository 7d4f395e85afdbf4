// The linear kernels with AMX: products of many tokens by tiles of bfloat16 (linear_tiles.h). Steps of fewer tokens are
// those of linear_amx_few.cc, or AVX-512's.
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
#include "backend/cpu/simd_amx.h"
#include "backend/cpu/linear_formats.inl"
#include "backend/cpu/linear_integer.inl"
// clang-format on

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

void pack_sums(const float* sums, int n_token_tiles, uint16_t* tiles, int64_t stride) {
  for (int i = 0; i < n_token_tiles; ++i, sums += 2 * kSumsTile, tiles += stride)
    for (int t = 0; t < kTileTokens; ++t) {
      const float* row = sums + t * kPanelRows;
      store_row(tiles + t * kTileColumns, to_bf16(load_floats(row), load_floats(row + kSumsTile)));
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
PairLanes pair_lanes(const Scales& scales) {
  Floats base = mul(scales.scale, broadcast(-kTakenOff<F>));
  if constexpr (F::kMinimum > 0) base = add(base, scales.minimum);
  if constexpr (F::kMinimum < 0) base = _mm512_sub_ps(base, scales.minimum);
  const Floats unit = mul(scales.scale, broadcast(kCodeUnit<F>));
  return {.scale = {twice(unit, 0), twice(unit, 1)}, .base = {twice(base, 0), twice(base, 1)}};
}

template <typename F>
Scales whole_scales(const HalfScales& w, int half) {
  Scales scales;
  scales.scale = mul(w.d, w.factor[half]);
  if constexpr (F::kMinimum != 0) scales.minimum = mul(w.dmin, w.minimum[half]);
  return scales;
}

// 32 columns of a panel: w = scale * (code + kTakenOff) + base. That is the weight to 2^-16 of its scale, before
// rounding.
template <typename F>
void decode_step(const PanelCodes<F::kBits>& stored, const Scales* scales, uint16_t* tile) {
  constexpr int kScales = 32 / F::kScaleColumns;
  PairLanes lanes[kScales];
  for (int i = 0; i < kScales; ++i) lanes[i] = pair_lanes<F>(scales[i]);
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
    Scales scales[32 / F::kScaleColumns];
    const StepScales<F> w = step_scales<type>(block, F::header(block, 0), sub, 0);
    if constexpr (F::kScaleColumns == 32)
      scales[0] = w;
    else
      for (int half = 0; half < 2; ++half) scales[half] = whole_scales<F>(w, half);
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

// An eighth of the sums of the next 32 tokens, to be loaded when these are done.
constexpr int kSumsShares = 8;
void prefetch_sums(const float* sums, int share) {
  constexpr int kShare = 4 * kSumsTile / kSumsShares;
  for (int i = 0; i < kShare; i += 16) __builtin_prefetch(sums + share * kShare + i, 1);
}

// sums[token tile][panel of the pair], tiles of [16 tokens][16 rows], of 32 tokens: += x * w. The tile products of a
// step are four independent chains, which a latency of 52 cycles at one in 16 asks for. Activations are loaded as what
// is not needed again, so that the first-level cache keeps the weights.
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
    if (step < kSumsShares) prefetch_sums(sums + 4 * kSumsTile, step);
    _tile_loadd(SPATE_WEIGHTS_0, w.tile[step][0], kRowBytes);
    _tile_stream_loadd(SPATE_TOKENS_0, x + step * kTileElems, kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_00, SPATE_TOKENS_0, SPATE_WEIGHTS_0);
    _tile_loadd(SPATE_WEIGHTS_1, w.tile[step][1], kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_01, SPATE_TOKENS_0, SPATE_WEIGHTS_1);
    _tile_stream_loadd(SPATE_TOKENS_1, second + step * kTileElems, kRowBytes);
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
    _tile_stream_loadd(SPATE_TOKENS_0, x + step * kTileElems, kRowBytes);
    _tile_loadd(SPATE_WEIGHTS_0, w.tile[step][0], kRowBytes);
    _tile_loadd(SPATE_WEIGHTS_1, w.tile[step][1], kRowBytes);
    _tile_dpbf16ps(SPATE_SUMS_00, SPATE_TOKENS_0, SPATE_WEIGHTS_0);
    _tile_dpbf16ps(SPATE_SUMS_01, SPATE_TOKENS_0, SPATE_WEIGHTS_1);
  }
  _tile_stored(SPATE_SUMS_00, sums, kRowBytes);
  _tile_stored(SPATE_SUMS_01, sums + kSumsTile, kRowBytes);
}

// Up to kTileSteps steps of two panels.
struct Block {
  int pair;
  int64_t first_step;
  int n_steps;  // 0: past the last block
};

// What a call goes through, the panels of a K block one after the other, so that all find the activations of the block
// in the second-level cache.
class Blocks {
 public:
  explicit Blocks(const TileProduct& p)
      : p_(p),
        n_steps_(p.n_cols / kTileColumns),
        n_pairs_((p.n_panels + 1) / 2),
        n_token_tiles_((p.n_tokens + kTileTokens - 1) / kTileTokens) {}

  int n_token_tiles() const { return n_token_tiles_; }
  int64_t size() const { return (n_steps_ + kTileSteps - 1) / kTileSteps * n_pairs_; }
  Block at(int64_t index) const {
    const int64_t first_step = index / n_pairs_ * kTileSteps, rest = n_steps_ - first_step;
    return {.pair = static_cast<int>(index % n_pairs_),
            .first_step = first_step,
            .n_steps = static_cast<int>(rest < 0            ? 0
                                        : rest < kTileSteps ? rest
                                                            : kTileSteps)};
  }
  bool is_last(const Block& block) const { return block.first_step + block.n_steps == n_steps_; }  // of its rows

  // Of panel 0 or 1 of the block; null past the last panel and past the block's end.
  StepAt step_at(const Block& block, int step, int panel) const {
    const int index = block.pair * 2 + panel;
    const bool exists = index < p_.n_panels && step < block.n_steps;
    return {.panel = exists ? p_.panels + index * p_.panel_bytes : nullptr, .step = block.first_step + step};
  }
  const uint16_t* x(const Block& block, int token_tile) const {
    const int64_t tile =
        block.first_step * p_.x.n_token_tiles + int64_t{p_.first_token / kTileTokens + token_tile} * block.n_steps;
    return p_.x.tiles + tile * kTileElems;
  }
  // [pair of panels][token tile][panel of the pair][16 tokens][16 rows]
  float* sums(const Block& block, int token_tile) const {
    return p_.sums + (int64_t{block.pair} * n_token_tiles_ + token_tile) * 2 * kSumsTile;
  }

  // A share of the activations of the K block to come (after the last one, the first: other panels follow) is brought
  // into the second-level cache. In an eighth of the time of a K block the processor's own prefetching does not.
  void prefetch_share(const Block& block, int token_tile) const {
    const Block next = at(is_last(block) ? 0 : (block.first_step / kTileSteps + 1) * n_pairs_);
    constexpr int kLines = kTileElems * int{sizeof(uint16_t)} / 64;
    const int n_calls = n_pairs_ * ((n_token_tiles_ + 1) / 2);
    const int share = (n_token_tiles_ * next.n_steps * kLines + n_calls - 1) / n_calls;
    const int call = block.pair * ((n_token_tiles_ + 1) / 2) + token_tile / 2;
    const char* from = reinterpret_cast<const char*>(x(next, 0)) + int64_t{call} * share * 64;
    for (int i = 0; i < share; ++i) _mm_prefetch(from + int64_t{i} * 64, _MM_HINT_T1);
  }

 private:
  const TileProduct& p_;
  int64_t n_steps_;
  int n_pairs_, n_token_tiles_;
};

// Decodes a block tile by tile, as many as the caller has time for.
template <QuantType type>
class Decoder {
 public:
  // `after` is decoded next.
  Decoder(const Blocks& blocks, const Block& block, const Block& after, WeightTiles& out)
      : blocks_(blocks), block_(block), after_(after), out_(out) {}

  // Until part / n_parts of the block is done.
  void advance(int part, int n_parts) {
    for (const int end = (2 * block_.n_steps * part + n_parts - 1) / n_parts; n_done_ < end; ++n_done_) {
      const int step = n_done_ / 2, panel = n_done_ % 2;
      decode_tile<type>(blocks_.step_at(block_, step, panel), blocks_.step_at(after_, step, panel),
                        out_.tile[step][panel]);
    }
  }

 private:
  const Blocks& blocks_;
  const Block block_, after_;
  int n_done_ = 0;
  WeightTiles& out_;
};

// The complete sums of a pair of panels with one or two token tiles, while the first-level cache holds them.
void take_sums(const TileProduct& p, int pair, int token_tile, int n_token_tiles, float* sums) {
  if (p.take != nullptr) return p.take(p.context, pair, token_tile, n_token_tiles, sums);
  const int first_token = token_tile * kTileTokens, rest = p.n_tokens - first_token;
  const int n_tokens = rest < n_token_tiles * kTileTokens ? rest : n_token_tiles * kTileTokens;
  for (int panel = 2 * pair; panel < 2 * pair + 2 && panel < p.n_panels; ++panel, sums += kSumsTile) {
    const int64_t first_row = int64_t{panel} * kPanelRows, n_rows = p.n_rows - first_row;
    const PanelProduct rows{.n_tokens = n_tokens,
                            .bias = p.bias == nullptr ? nullptr : p.bias + first_row,
                            .y = p.y + first_token * p.y_stride + first_row,
                            .y_stride = p.y_stride,
                            .n_valid = static_cast<int>(n_rows < kPanelRows ? n_rows : kPanelRows),
                            .accumulate = p.accumulate};
    for (int t = 0; t < n_tokens; ++t)
      finish_token(rows, t, sums + t / kTileTokens * 2 * kSumsTile + t % kTileTokens * kPanelRows);
  }
}

template <QuantType type>
void tile_product(const TileProduct& p) {
  const Blocks blocks(p);
  WeightTiles weights[2];
  Decoder<type>(blocks, blocks.at(0), blocks.at(1), weights[0]).advance(1, 1);
  configure_tiles();
  const int n_token_tiles = blocks.n_token_tiles();
  for (int64_t i = 0; i < blocks.size(); ++i) {
    const Block block = blocks.at(i);
    const WeightTiles& w = weights[i % 2];
    Decoder<type> next(blocks, blocks.at(i + 1), blocks.at(i + 2), weights[(i + 1) % 2]);
    const bool first = block.first_step == 0, last = blocks.is_last(block);
    for (int tile = 0; tile < n_token_tiles; tile += 2) {
      float* sums = blocks.sums(block, tile);
      const int n_now = tile + 1 < n_token_tiles ? 2 : 1;
      if (n_now == 2)
        multiply_32_tokens(blocks.x(block, tile), w, block.n_steps, first, sums);
      else
        multiply_16_tokens(blocks.x(block, tile), w, block.n_steps, first, sums);
      blocks.prefetch_share(block, tile);
      next.advance(tile + n_now, n_token_tiles);
      finish_stores();
      if (last) take_sums(p, block.pair, tile, n_now, sums);
    }
  }
  _tile_release();
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
  static const LinearKernels kKernels = {.kernel_for = avx512_linear_kernels().kernel_for,
                                         .quantize = avx512_linear_kernels().quantize,
                                         .tiles = &kTiles,
                                         .few_kernel_for = amx_few_token_kernel_for};
  return kKernels;
}

}  // namespace spate::cpu
