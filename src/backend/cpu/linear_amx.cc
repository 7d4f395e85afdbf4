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

// ---- float32 to bfloat16

// NaNs without a payload, which rounding could carry over into a zero.
inline Floats plain_nans(Floats v) {
  return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), broadcast(__builtin_nanf("")));
}

// The nearest bfloat16 in the upper half of each lane, ties away from zero; the lower half is what is left over.
inline Ints round_to_upper_half(Floats v) {
  return add_ints(_mm512_castps_si512(v), broadcast_int(0x8000));
}

// Lanes of two bfloat16, `even` in the lower half.
inline Ints pair_lanes(Floats even, Floats odd) {
  constexpr int kAndThenOr = 0xea;  // a & b | c
  return _mm512_ternarylogic_epi32(round_to_upper_half(odd), broadcast_int(static_cast<int32_t>(0xffff0000)),
                                   shift_right<16>(round_to_upper_half(even)), kAndThenOr);
}

inline void store_pairs(uint16_t* tile_row, Ints pairs) {
  _mm512_storeu_si512(tile_row, pairs);
}

inline void pack_16(Floats v, uint16_t* out) {
  const __m256i halves = _mm512_cvtepi32_epi16(shift_right<16>(round_to_upper_half(plain_nans(v))));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), halves);
}

void pack(const float* x, int64_t stride, int n_tokens, uint16_t* tile) {
  for (int t = 0; t < kTileTokens; ++t)
    for (int c = 0; c < kTileColumns; c += 16)
      pack_16(t < n_tokens ? load_floats(x + t * stride + c) : zero_floats(), tile + t * kTileColumns + c);
}

// Tiles of sums, of 16 tokens x 16 rows.
constexpr int kSumsTile = kTileTokens * kPanelRows;

void pack_sums(const SumsToTiles& job) {
  for (int token_tile = 0; token_tile < job.n_token_tiles; ++token_tile)
    for (int step = 0; step < job.n_steps; ++step) {
      const float* sums = job.sums + (int64_t{step} * job.n_token_tiles + token_tile) * 2 * kSumsTile;
      uint16_t* tile = job.tiles + token_tile * job.token_tile_stride + step * kTileElems;
      for (int t = 0; t < kTileTokens; ++t)
        for (int panel = 0; panel < 2; ++panel)
          pack_16(load_floats(sums + panel * kSumsTile + t * kPanelRows), tile + t * kTileColumns + panel * kPanelRows);
    }
}

// ---- weights to tiles

constexpr int kTileRow = 2 * kPanelRows;  // elements: a pair of columns of 16 rows
constexpr float kMagic = 256;             // plus a code of 8 bits: the code in bits 15 to 22 of a float32

// Column c of a group of four as float32 kMagic + code.
template <int c>
Floats magic_code(Bytes codes) {
  constexpr int kShift = 15 - 8 * c, kAndThenOr = 0xea;
  Ints moved;
  if constexpr (kShift > 0)
    moved = shift_left<kShift>(codes);
  else
    moved = shift_right<-kShift>(codes);
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(moved, broadcast_int(0x7f8000), broadcast_int(0x43800000), kAndThenOr));
}

// 32 columns of a panel: w = scale * (kMagic + code) + base. That is the weight to 2^-15 of its scale, before rounding.
template <typename F>
void decode_step(const PanelCodes<F::kBits>& stored, const Scales& scales, uint16_t* tile) {
  constexpr int kHalves = 32 / F::kScaleColumns;
  constexpr float kTakenOff = kMagic + kCodeOffset<F>;
  Floats scale[kHalves], base[kHalves];
  for (int half = 0; half < kHalves; ++half) {
    scale[half] = plain_nans(scales.scale[half]);
    base[half] = mul(scale[half], broadcast(-kTakenOff));
    if constexpr (F::kMinimum > 0) base[half] = add(base[half], scales.minimum[half]);
    if constexpr (F::kMinimum < 0) base[half] = _mm512_sub_ps(base[half], scales.minimum[half]);
    base[half] = plain_nans(base[half]);
  }
  Bytes codes[8];
  decode_codes<F>(stored, 0, codes);
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const Floats s = scale[g * kHalves / 8], b = base[g * kHalves / 8];
    store_pairs(tile + 2 * g * kTileRow,
                pair_lanes(fma(magic_code<0>(codes[g]), s, b), fma(magic_code<1>(codes[g]), s, b)));
    store_pairs(tile + (2 * g + 1) * kTileRow,
                pair_lanes(fma(magic_code<2>(codes[g]), s, b), fma(magic_code<3>(codes[g]), s, b)));
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

template <QuantType type>
void decode_float_step(const PanelBlock<type>* columns, uint16_t* tile) {
  for (int c = 0; c < kTileColumns; c += 2, tile += kTileRow) {
    if constexpr (type == QuantType::kF16) {
      store_pairs(tile, pair_lanes(plain_nans(load_f16(columns[c].value)), plain_nans(load_f16(columns[c + 1].value))));
    } else {
      const Ints even = _mm512_castps_si512(load_bf16(columns[c].value));
      const Ints odd = _mm512_castps_si512(load_bf16(columns[c + 1].value));
      store_pairs(tile, or_ints(shift_right<16>(even), odd));
    }
  }
}

// `ahead`: a step that is decoded some thousand cycles later.
template <QuantType type>
void decode_tile(StepAt at, StepAt ahead, uint16_t* tile) {
  if (at.panel == nullptr) {
    for (int i = 0; i < kTileElems; i += kTileRow) store_pairs(tile + i, broadcast_int(0));
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
