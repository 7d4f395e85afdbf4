// Products of few tokens by int8 tiles: the same int32 sums as those of AVX-512 VNNI, and so the same bits.
//
// VNNI multiplies 16 rows x 32 columns by a token in 8 instructions, and each needs the activations broadcast; a tile
// product does it for 16 tokens at once, beside the vector units. What is left for those is to unpack the weights once
// for all tokens and 4 or 5 operations a token to scale the sums. For Q4_K and 8 tokens, in operations of the two
// vector ports: 8 * 13 + 40 with VNNI, 8 * 4 + 30 here.
//
// There is no forwarding from the stores of codes to a tile load, nor from the store of a tile to a load. So the work
// goes in units of up to 8 steps of 32 columns, of which three are under way: one is unpacked while the one before is
// multiplied and the one before that scaled.
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
#include "backend/cpu/amx_tiles.h"
// clang-format on

constexpr int kUnitSteps = 8;  // of 32 columns
constexpr int kTileTokens16 = 16;

template <typename F>
constexpr int kHalves = 32 / F::kScaleColumns;  // parts of a step that have scales of their own

// What a unit of weights is unpacked to.
template <typename F>
struct Unit {
  Bytes codes[kUnitSteps][8];  // tiles of [4-column groups][16 rows][4 columns]
  Scales scales[kUnitSteps];
};

struct alignas(64) UnitSums {
  int32_t sum[kUnitSteps][2][kFewTokens][kPanelRows];  // [step][half][token][row]
};

// The units of all panels of a call, one after the other.
template <QuantType type>
class Units {
 public:
  using Block = PanelBlock<type>;
  static constexpr int kBlockSteps = sizeof(Block::codes) / sizeof(Block::codes[0]);

  explicit Units(const FewProduct& p) : p_(p), n_steps_(p.first.n_cols / kActivationBlock) {}

  bool exhausted() const { return panel_ == p_.n_panels; }
  void next() {
    step_ += kUnitSteps;
    if (step_ < n_steps_) return;
    step_ = 0;
    ++panel_;
  }
  int64_t panel() const { return panel_; }
  bool is_first() const { return step_ == 0; }  // of its panel
  bool is_last() const { return step_ + kUnitSteps >= n_steps_; }
  int n_steps() const {
    const int64_t rest = n_steps_ - step_;
    return static_cast<int>(rest < kUnitSteps ? rest : kUnitSteps);
  }
  const Block* blocks() const {
    return reinterpret_cast<const Block*>(p_.first.panel + panel_ * p_.panel_bytes) + step_ / kBlockSteps;
  }
  const ActivationBlock* x() const { return p_.first.blocks + step_ * p_.first.block_stride; }

 private:
  const FewProduct& p_;
  int64_t n_steps_, panel_ = 0, step_ = 0;
};

template <QuantType type>
void unpack(const Units<type>& at, Unit<Format<type>>& out) {
  using F = Format<type>;
  constexpr int kBlockSteps = Units<type>::kBlockSteps;
  static_assert(kBlockSteps == 1 || kBlockSteps == kUnitSteps);
  const auto* blocks = at.blocks();
  for (int first = 0; first < at.n_steps(); first += kBlockSteps) {
    const auto& block = blocks[first / kBlockSteps];
    const auto header = F::header(block, 0);
    prefetch_scales(block, 0);
    for (int step = 0; step < kBlockSteps; ++step) {
      F::scales(block, header, step, 0, out.scales[first + step]);
      prefetch_codes(block, step, 0);
      Bytes codes[8];
      decode_codes<F>(block.codes[step], 0, codes);
      for (int g = 0; g < 8; ++g) out.codes[first + step][g] = codes[g];
    }
  }
}

// Tiles: sums of 16 tokens and of the tokens left over, those tokens' activations, codes.
#define SPATE_SUMS 0
#define SPATE_REST_SUMS 1
#define SPATE_TOKENS 2
#define SPATE_REST_TOKENS 3
#define SPATE_CODES 4

template <typename F>
void configure_few(int n_tokens) {
  constexpr uint8_t kCodeRows = 8 / kHalves<F>;
  constexpr uint16_t kTokenBytes = 32 / kHalves<F>;
  const auto rest = static_cast<uint8_t>(n_tokens % kTileTokens16);
  TileConfig config;
  config.set(SPATE_SUMS, kTileTokens16, 64);
  config.set(SPATE_TOKENS, kTileTokens16, kTokenBytes);
  config.set(SPATE_REST_SUMS, rest == 0 ? 1 : rest, 64);
  config.set(SPATE_REST_TOKENS, rest == 0 ? 1 : rest, kTokenBytes);
  config.set(SPATE_CODES, kCodeRows, 64);
  load_config(config);
}

template <typename F>
void multiply(const Unit<F>& unit, int n_steps, const ActivationBlock* x, int64_t stride, int n_tokens, UnitSums& out) {
  constexpr int kTokenStride = sizeof(ActivationBlock), kRowBytes = 64;
  finish_stores();
  for (int step = 0; step < n_steps; ++step, x += stride)
    for (int half = 0; half < kHalves<F>; ++half) {
      _tile_loadd(SPATE_CODES, unit.codes[step] + half * 4, kRowBytes);
      int t = 0;
      for (; t + kTileTokens16 <= n_tokens; t += kTileTokens16) {
        _tile_zero(SPATE_SUMS);
        _tile_loadd(SPATE_TOKENS, x[t].q + half * 16, kTokenStride);
        _tile_dpbsud(SPATE_SUMS, SPATE_TOKENS, SPATE_CODES);
        _tile_stored(SPATE_SUMS, out.sum[step][half][t], kRowBytes);
      }
      if (t == n_tokens) continue;
      _tile_zero(SPATE_REST_SUMS);
      _tile_loadd(SPATE_REST_TOKENS, x[t].q + half * 16, kTokenStride);
      _tile_dpbsud(SPATE_REST_SUMS, SPATE_REST_TOKENS, SPATE_CODES);
      _tile_stored(SPATE_REST_SUMS, out.sum[step][half][t], kRowBytes);
    }
  finish_stores();
}

// kTokens tokens from `t` on: their sums stay in registers.
template <typename F, int kTokens>
void scale_tokens(const Unit<F>& unit, int n_steps, const UnitSums& sums, const ActivationBlock* x, int64_t stride,
                  int t, float* results) {
  Floats acc[kTokens];
  for (int i = 0; i < kTokens; ++i) acc[i] = load_floats(results + (t + i) * kPanelRows);
  for (int step = 0; step < n_steps; ++step) {
    const ActivationBlock* x_step = x + step * stride + t;
    const Scales scales = unit.scales[step];
#pragma GCC unroll 8
    for (int i = 0; i < kTokens; ++i) {
      RawSums raw;
      for (int half = 0; half < kHalves<F>; ++half) raw.half[half] = load_ints(sums.sum[step][half][t + i]);
      acc[i] = accumulate<F>(raw, scales, x_step[i], acc[i]);
    }
  }
  for (int i = 0; i < kTokens; ++i) store_floats(results + (t + i) * kPanelRows, acc[i]);
}

template <typename F>
void scale(const Unit<F>& unit, int n_steps, const UnitSums& sums, const ActivationBlock* x, int64_t stride,
           int n_tokens, float* results) {
  int t = 0;
  for (; t + 8 <= n_tokens; t += 8) scale_tokens<F, 8>(unit, n_steps, sums, x, stride, t, results);
  for (; t + 4 <= n_tokens; t += 4) scale_tokens<F, 4>(unit, n_steps, sums, x, stride, t, results);
  for (; t < n_tokens; ++t) scale_tokens<F, 1>(unit, n_steps, sums, x, stride, t, results);
}

void finish_panel(const FewProduct& p, int64_t panel, const float* results) {
  const int64_t first_row = panel * kPanelRows, rest = p.n_rows - first_row;
  PanelProduct rows = p.first;
  if (rows.bias != nullptr) rows.bias += first_row;
  rows.y += first_row;
  rows.n_valid = static_cast<int>(rest < kPanelRows ? rest : kPanelRows);
  for (int t = 0; t < rows.n_tokens; ++t) finish_token(rows, t, results + t * kPanelRows);
}

template <QuantType type>
void few_product(const FewProduct& p) {
  using F = Format<type>;
  Unit<F> units[3];
  UnitSums sums[2];
  alignas(64) float results[kFewTokens * kPanelRows];
  const int n_tokens = p.first.n_tokens;
  const int64_t stride = p.first.block_stride;
  Units<type> to_unpack(p), to_multiply(p), to_scale(p);
  configure_few<F>(n_tokens);
  for (int i = 0; !to_scale.exhausted(); ++i) {
    if (i >= 1 && !to_multiply.exhausted()) {
      multiply<F>(units[(i - 1) % 3], to_multiply.n_steps(), to_multiply.x(), stride, n_tokens, sums[(i - 1) % 2]);
      to_multiply.next();
    }
    if (!to_unpack.exhausted()) {
      unpack<type>(to_unpack, units[i % 3]);
      to_unpack.next();
    }
    if (i < 2) continue;
    if (to_scale.is_first())
      for (int at = 0; at < n_tokens * kPanelRows; at += kLanes) store_floats(results + at, zero_floats());
    scale<F>(units[(i - 2) % 3], to_scale.n_steps(), sums[(i - 2) % 2], to_scale.x(), stride, n_tokens, results);
    if (to_scale.is_last()) finish_panel(p, to_scale.panel(), results);
    to_scale.next();
  }
  _tile_release();
}

template <QuantType type>
constexpr FewKernel few_kernel() {
  if constexpr (kIsFloat<type>)
    return nullptr;
  else
    return few_product<type>;
}

}  // namespace

FewKernel amx_few_kernel_for(QuantType type) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return few_kernel<QuantType::enumerator>();
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  return nullptr;
}

}  // namespace spate::cpu
