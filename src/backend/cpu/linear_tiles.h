// Products of many tokens by tiles of bfloat16 (AMX): weights are decoded to bfloat16 with their scales applied, once
// for all tokens of a call, and everything is summed in the tiles. Unlike the other kernels' results, these are not the
// same bits at every number of tokens; a step of fewer than kTileMinTokens never comes here.
//
// Plain data without a function: this header is compiled with several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/panel_layout.h"
#include "quant/quant_type.h"

namespace spate::cpu {

// Tokens of a step from which tiles are used. With fewer, decoding the weights takes most of the time: on a core of a
// Xeon (2026-11), two panels x 256 columns of Q4_K took 1.4 us with 32 tokens, 1.7 with 64, 2.6 with 128, so AVX-512
// VNNI is ahead up to about 48 tokens, and exact besides.
inline constexpr int kTileMinTokens = 48;
inline constexpr int kNoTiles = 1 << 30;  // as a least number of tokens

// A tile of activations is 16 tokens x 32 columns, of weights 32 columns x 16 rows of a panel, in pairs of columns;
// either fills the 1 KB of a tile register.
inline constexpr int kTileTokens = 16;
inline constexpr int kTileColumns = 32;
inline constexpr int kTileElems = kTileTokens * kTileColumns;

// Tiles along the columns of what is decoded at once, for two panels: 16 KB, read from the first-level cache by all
// tokens. Activations pass by from the second level, as many bytes again for each 32 tokens.
inline constexpr int kTileSteps = 8;

// Tokens and panels of a call at most. The sums of 512 x 256 results (512 KB) and the activations of 512 tokens x 256
// columns (256 KB) stay in a second-level cache of 2 MB; the activations come into it anew for each call, which at 256
// rows asks for 4 bytes of them a cycle.
inline constexpr int kTileBlockTokens = 512;
inline constexpr int kTilePanels = 16;

// The activations of a step as tiles: K blocks of kTileSteps tiles (the last may be shorter) one after the other; in
// each, for each 16 tokens, its tiles along the columns. Tokens that do not exist are zeros.
struct TokenTiles {
  const uint16_t* tiles = nullptr;  // bfloat16, 64-byte aligned
  int n_token_tiles = 0;            // ceil(tokens of the step / 16)
};

// Up to kTilePanels consecutive panels times up to kTileBlockTokens tokens.
struct TileProduct {
  const std::byte* panels = nullptr;
  int64_t panel_bytes = 0;
  int n_panels = 0;
  int64_t n_cols = 0;  // a multiple of kTileColumns
  TokenTiles x = {};
  int first_token = 0;  // of the step; a multiple of kTileTokens
  int n_tokens = 0;
  // Scratch, 64-byte aligned: [pair of panels][token tile][panel of the pair][16 tokens][16 rows]. Tokens that do not
  // exist have zeros, rows that do not exist anything.
  float* sums = nullptr;
  // Either what becomes of the sums:
  const float* bias = nullptr;  // [n_rows] or null
  float* y = nullptr;           // [n_tokens, y_stride], the first n_rows of each row are written
  int64_t y_stride = 0;
  int64_t n_rows = 0;  // of the panels, those that exist
  bool accumulate = false;
  // or, where not null, who takes them: called once for each pair of panels with one or two token tiles, with its part
  // of `sums` when it is complete.
  void (*take)(const void* context, int pair, int token_tile, int n_token_tiles, float* sums) = nullptr;
  const void* context = nullptr;
};

using TileKernel = void (*)(const TileProduct&);

struct TileKernels {
  // Null for types that are not multiplied by tiles: F32, which would lose what it is chosen for.
  TileKernel (*kernel_for)(QuantType type);
  // One tile from x[n_tokens, stride], n_tokens at most 16, its columns the first kTileColumns.
  void (*pack)(const float* x, int64_t stride, int n_tokens, uint16_t* tile);
  // n_token_tiles tiles, `stride` elements apart, from the sums of a pair of panels with as many token tiles, as they
  // lie in TileProduct::sums; the rows of the pair are the 32 columns.
  void (*pack_sums)(const float* sums, int n_token_tiles, uint16_t* tiles, int64_t stride);
};

}  // namespace spate::cpu
