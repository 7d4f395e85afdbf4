// Products of a few tokens by int8 tiles (AMX): the sums of linear_integer.inl's definition, and its float32 operations
// on them, so its bits.
//
// A tile holds the codes of 16 rows x 32 columns as they lie in a panel (columns that share a scale: 16 in some types),
// another the same columns of up to 16 tokens, and their product, stored, is a vector of 16 rows for each token. VNNI
// takes 8 instructions on vectors for what one product of tiles does; both then take 4 to scale the sums. But what a
// tile stores can be loaded only once it has reached the cache, and a product takes 52 cycles. So 256 columns go
// through three stages, each of which finds what the one before left a stage's time ago: codes and scales are unpacked
// to memory, multiplied, scaled. Some 290 cycles for 8 tokens by Q4_K's counts, where VNNI's vector units need 490.
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

// Of how many tokens this is quicker than VNNI's products, by columns that share a scale. With fewer, unpacking takes
// longer than they do. Where 32 columns have two scales a token has twice the sums, which with two tiles of tokens
// crowd the first-level cache. Measured: docs/performance.md.
struct TokenRange {
  int min, max;
};
template <typename F>
constexpr TokenRange kQuickerFor =
    F::kScaleColumns == 32 ? TokenRange{.min = 6, .max = kTokenBlock} : TokenRange{.min = 12, .max = kTileTokens};

constexpr int kGroupSteps = 8;  // of 32 columns, unpacked together

// Scales, and so sums, for 32 columns.
template <typename F>
constexpr int kParts = 32 / F::kScaleColumns;

// ---- weights

// The bytes of 32 columns of a panel; a superblock's scales shared out.
template <QuantType type>
constexpr int kStepBytes =
    int{sizeof(PanelBlock<type>) / (sizeof(PanelBlock<type>::codes) / sizeof(PanelBlock<type>::codes[0]))};

// Fetches the weights two groups ahead of those being multiplied, a line or two at a time wherever a stage has gone on
// by a step. Asked for all at once while a group is unpacked, most lines wait for the first ones to arrive, and in the
// other stages memory idles.
class WeightsAhead {
 public:
  explicit WeightsAhead(const std::byte* from) : next_(from), due_(from) {}

  void fetch(int n_bytes) {
    due_ += n_bytes;
    const std::byte* line = next_;
    for (; line < due_; line += 64) __builtin_prefetch(line);
    next_ = line;
  }

 private:
  const std::byte* next_;  // not fetched yet, whole lines
  const std::byte* due_;
};

// What the stages fetch, once for each step: its bytes together.
template <QuantType type>
constexpr int kFetchUnpacking = kStepBytes<type> / 4;
template <QuantType type>
constexpr int kFetchMultiplying = kStepBytes<type> / 2;
template <QuantType type>
constexpr int kFetchScaling = kStepBytes<type> - kFetchUnpacking<type> - kFetchMultiplying<type>;

template <typename F>
struct alignas(64) UnpackedGroup {
  uint8_t codes[kGroupSteps][8][64];  // int8, offsets taken off: [group of 4 columns][row][column]
  StepScales<F> scales[kGroupSteps];
};

template <typename F>
Bytes without_code_offset(Bytes codes) {
  if constexpr (kCodeOffset<F> == 0)
    return codes;
  else
    return _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(kCodeOffset<F>)));
}

template <QuantType type>
void unpack_group(const std::byte* panel, int64_t first_step, int n_steps, WeightsAhead& ahead,
                  UnpackedGroup<Format<type>>& out) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);
  static_assert(kGroupSteps % kSteps == 0);
  const Block* block = reinterpret_cast<const Block*>(panel) + first_step / kSteps;
  for (int step = 0; step < n_steps; ++block) {
    const auto header = F::header(*block, 0);
    for (int sub = 0; sub < kSteps; ++sub, ++step) {
      out.scales[step] = step_scales<type>(*block, header, sub, 0);
      Bytes codes[8];
      decode_codes<F>(block->codes[sub], 0, codes);
      ahead.fetch(kFetchUnpacking<type>);
      for (int g = 0; g < 8; ++g) store_bytes(out.codes[step][g], without_code_offset<F>(codes[g]));
    }
  }
}

// ---- products

// Tokens in as few tiles as hold them, of as many rows each. The last one begins among the tokens of the one before
// where there are not enough for it.
struct TokenTiling {
  int n_tiles, rows;

  explicit TokenTiling(int n_tokens)
      : n_tiles((n_tokens + kTileTokens - 1) / kTileTokens), rows((n_tokens + n_tiles - 1) / n_tiles) {}
};

struct TileOfTokens {
  int first;       // token of the tile's first row
  int begin, end;  // tokens that are nobody else's
};
TileOfTokens tile_of_tokens(const TokenTiling& tiling, int n_tokens, int tile) {
  const int begin = tile * tiling.rows, last = n_tokens - tiling.rows;
  return {.first = begin < last ? begin : last,
          .begin = begin,
          .end = begin + tiling.rows < n_tokens ? begin + tiling.rows : n_tokens};
}

// Tiles: sums, activations, codes. The intrinsics want literal numbers.
#define SPATE_SUMS_0 0
#define SPATE_SUMS_1 1
#define SPATE_SUMS_2 2
#define SPATE_SUMS_3 3
#define SPATE_TOKENS_0 4
#define SPATE_TOKENS_1 5
#define SPATE_CODES_0 6
#define SPATE_CODES_1 7

template <typename F>
void configure_tiles(int n_tokens) {
  TileConfig config;
  for (int tile = SPATE_SUMS_0; tile <= SPATE_TOKENS_1; ++tile)
    config.rows[tile] = static_cast<uint8_t>(TokenTiling(n_tokens).rows);
  for (int tile = SPATE_TOKENS_0; tile <= SPATE_TOKENS_1; ++tile) config.row_bytes[tile] = F::kScaleColumns;
  for (int tile = SPATE_CODES_0; tile <= SPATE_CODES_1; ++tile) config.rows[tile] = F::kScaleColumns / 4;
  finish_stores();
  _tile_loadconfig(&config);
}

void release_tiles() {
  _tile_release();
}

// sums[n_steps][kParts][n_rows tokens][16 rows] of the tokens from x on, x[n_steps, x_stride]. `fetched`: bytes of
// `ahead` for each step.
template <typename F>
void multiply_group(const UnpackedGroup<F>& w, const ActivationBlock* x, int64_t x_stride, int n_steps, int n_rows,
                    WeightsAhead& ahead, int fetched, int32_t* sums) {
  constexpr int kTokenStride = sizeof(ActivationBlock), kCodesStride = 64, kSumsStride = 4 * kPanelRows;
  const int n_units = n_steps * kParts<F>;
  const auto codes = [&](int unit) { return w.codes[0][0] + unit * (F::kScaleColumns / 4) * kCodesStride; };
  const auto tokens = [&](int unit) { return x[unit / kParts<F> * x_stride].q + unit % kParts<F> * F::kScaleColumns; };
  const auto sums_of = [&](int unit) { return sums + unit * n_rows * kPanelRows; };
#define SPATE_MULTIPLY(sums_tile, tokens_tile, codes_tile, unit) \
  _tile_zero(sums_tile);                                         \
  _tile_loadd(codes_tile, codes(unit), kCodesStride);            \
  _tile_loadd(tokens_tile, tokens(unit), kTokenStride);          \
  _tile_dpbssd(sums_tile, tokens_tile, codes_tile);              \
  ahead.fetch(fetched / kParts<F>)
  finish_stores();
  int unit = 0;
  for (; unit + 4 <= n_units; unit += 4) {
    SPATE_MULTIPLY(SPATE_SUMS_0, SPATE_TOKENS_0, SPATE_CODES_0, unit);
    SPATE_MULTIPLY(SPATE_SUMS_1, SPATE_TOKENS_1, SPATE_CODES_1, unit + 1);
    SPATE_MULTIPLY(SPATE_SUMS_2, SPATE_TOKENS_0, SPATE_CODES_0, unit + 2);
    SPATE_MULTIPLY(SPATE_SUMS_3, SPATE_TOKENS_1, SPATE_CODES_1, unit + 3);
    _tile_stored(SPATE_SUMS_0, sums_of(unit), kSumsStride);
    _tile_stored(SPATE_SUMS_1, sums_of(unit + 1), kSumsStride);
    _tile_stored(SPATE_SUMS_2, sums_of(unit + 2), kSumsStride);
    _tile_stored(SPATE_SUMS_3, sums_of(unit + 3), kSumsStride);
  }
  for (; unit < n_units; ++unit) {
    SPATE_MULTIPLY(SPATE_SUMS_0, SPATE_TOKENS_0, SPATE_CODES_0, unit);
    _tile_stored(SPATE_SUMS_0, sums_of(unit), kSumsStride);
  }
  finish_stores();
#undef SPATE_MULTIPLY
}

// ---- sums to results

// results[kTokens][16] of consecutive tokens, from sums and x as above, of the first of these tokens.
template <typename F, int kTokens>
void scale_sums(const UnpackedGroup<F>& w, const int32_t* sums, int n_rows, const ActivationBlock* x, int64_t x_stride,
                int n_steps, WeightsAhead& ahead, int fetched, float* results) {
  Floats acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = load_floats(results + t * kPanelRows);
  for (int step = 0; step < n_steps; ++step) {
    const StepScales<F> scales = w.scales[step];
    for (int t = 0; t < kTokens; ++t) {
      const auto sum = [&](int part) {
        return load_ints(sums + ((step * kParts<F> + part) * n_rows + t) * kPanelRows);
      };
      if constexpr (kParts<F> == 1)
        acc[t] = accumulate<F>(sum(0), scales, x[step * x_stride + t], acc[t]);
      else
        acc[t] = accumulate<F>(RawSums{{sum(0), sum(1)}}, scales, x[step * x_stride + t], acc[t]);
    }
    ahead.fetch(fetched);
  }
  for (int t = 0; t < kTokens; ++t) store_floats(results + t * kPanelRows, acc[t]);
}

template <int n>
struct Constant {
  constexpr operator int() const { return n; }
};

template <typename F>
void scale_tile(const UnpackedGroup<F>& w, const int32_t* sums, int n_rows, const TileOfTokens& tile,
                const PanelProduct& p, const ActivationBlock* x, int n_steps, WeightsAhead& ahead, int fetched,
                float* results) {
  constexpr int kAtOnce = 4;  // share the loads of scales
  int t = tile.begin;
  const auto go_on = [&](auto n) {
    for (; t + n <= tile.end; t += n)
      scale_sums<F, n>(w, sums + (t - tile.first) * kPanelRows, n_rows, x + t, p.block_stride, n_steps, ahead,
                       t == 0 ? fetched : 0, results + t * kPanelRows);
  };
  go_on(Constant<kAtOnce>{});
  go_on(Constant<1>{});
}

template <QuantType type>
void few_tokens_product(const PanelProduct& p) {
  using F = Format<type>;
  alignas(64) float results[kTokenBlock * kPanelRows];
  alignas(64) int32_t sums[2][kGroupSteps * kParts<F> * kTileTokens * kPanelRows];
  UnpackedGroup<F> weights[2];
  for (int i = 0; i < p.n_tokens * kPanelRows; i += kLanes) store_floats(results + i, zero_floats());

  const TokenTiling tiling(p.n_tokens);
  const int64_t n_steps = p.n_cols / kActivationBlock;
  const auto steps_from = [&](int64_t first) {
    return static_cast<int>(n_steps - first < kGroupSteps ? n_steps - first : kGroupSteps);
  };
  WeightsAhead ahead(p.panel + 2 * kGroupSteps * kStepBytes<type>);
  unpack_group<type>(p.panel, 0, steps_from(0), ahead, weights[0]);
  for (int64_t first = 0; first < n_steps; first += kGroupSteps) {
    const UnpackedGroup<F>& w = weights[first / kGroupSteps % 2];
    const ActivationBlock* x = p.blocks + first * p.block_stride;
    const int n = steps_from(first);
    const auto multiply = [&](int tile) {
      multiply_group<F>(w, x + tile_of_tokens(tiling, p.n_tokens, tile).first, p.block_stride, n, tiling.rows, ahead,
                        tile == 0 ? kFetchMultiplying<type> : 0, sums[tile % 2]);
    };
    multiply(0);
    if (const int64_t next = first + kGroupSteps; next < n_steps)
      unpack_group<type>(p.panel, next, steps_from(next), ahead, weights[next / kGroupSteps % 2]);
    for (int tile = 0; tile < tiling.n_tiles; ++tile) {
      if (tile + 1 < tiling.n_tiles) multiply(tile + 1);
      scale_tile<F>(w, sums[tile % 2], tiling.rows, tile_of_tokens(tiling, p.n_tokens, tile), p, x, n, ahead,
                    kFetchScaling<type>, results);
    }
  }
  for (int t = 0; t < p.n_tokens; ++t) finish_token(p, t, results + t * kPanelRows);
}

template <QuantType type>
FewTokenKernel few_token_kernel(int n_tokens) {
  if constexpr (!kIsFloat<type>) {
    using F = Format<type>;
    if (n_tokens >= kQuickerFor<F>.min && n_tokens <= kQuickerFor<F>.max)
      return {.run = few_tokens_product<type>, .begin = configure_tiles<F>, .end = release_tiles};
  }
  return {};
}

}  // namespace

FewTokenKernel amx_few_token_kernel_for(QuantType type, int n_tokens) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return few_token_kernel<QuantType::enumerator>(n_tokens);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  return {};
}

}  // namespace spate::cpu
