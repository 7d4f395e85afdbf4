// Defines make_type_kernels<type>() for the translation units that instantiate it.
#pragma once

#include "backend/cuda/e4m3.h"
#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_kernels.h"
#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_wide.cuh"

namespace spate::cuda {

inline constexpr int kDecodeWarps = 4;

// A lane's share of a decoded tile [kTileRows, kTileCols] on its way from shared memory, where a row has kRowWords, to
// `out`, where it has row_elems: whole rows of the warp side by side.
template <int kRowWords>
__device__ __forceinline__ void write_tile(const uint32_t* words, int lane, Half2Bits, __half* out, int64_t row_elems) {
#pragma unroll
  for (int row = 0; row < kTileRows; ++row)
    reinterpret_cast<uint4*>(out + row * row_elems)[lane] =
        *reinterpret_cast<const uint4*>(words + row * kRowWords + 4 * lane);
}
template <int kRowWords>
__device__ __forceinline__ void write_tile(const uint32_t* words, int lane, Half2Bits power, std::byte* out,
                                           int64_t row_elems) {
#pragma unroll
  for (int row = lane / 16; row < kTileRows; row += 2) {
    const auto* halves = reinterpret_cast<const uint4*>(words + row * kRowWords + 8 * (lane % 16));
    const uint4 a = halves[0], b = halves[1];
    reinterpret_cast<uint4*>(out + row * row_elems)[lane % 16] = make_uint4(
        to_e4m3(a.x, a.y, power), to_e4m3(a.z, a.w, power), to_e4m3(b.x, b.y, power), to_e4m3(b.z, b.w, power));
  }
}

// What weights of a row are multiplied by when they are decoded to memory, in both halves:
// PackedMatrix::decoded_log2().
__device__ __forceinline__ Half2Bits row_lift(const float* row_factors, int64_t row) {
  if (row_factors == nullptr) return half2_of(1.0f);
  return low_twice(to_half(row_factors[row] * power_of_two(PackedMatrix::kRowLiftLog2)));
}

// One warp a tile: decoded through shared memory, so that rows are written 512 bytes at a time. Out: __half, or
// std::byte for E4M3 of the weights times `power`.
template <class Tile, class Out>
__global__ void __launch_bounds__(32 * kDecodeWarps)
    decode_tiles_kernel(const std::byte* tiles, const float* row_factors, int first_panel, int n_panels, int n_k_tiles,
                        Half2Bits power, Out* out) {
  constexpr int kRowWords = kTileCols / 2 + 4;  // padded: lanes of eight rows meet no bank twice
  __shared__ __align__(16) uint32_t decoded[kDecodeWarps][kTileRows * kRowWords];
  release_successor();
  wait_for_predecessor();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t tile = int64_t{blockIdx.x} * kDecodeWarps + threadIdx.x / 32;
  if (tile >= int64_t{n_panels} * n_k_tiles) return;
  uint32_t* words = decoded[threadIdx.x / 32];
  const auto regs = Tile::load(LaneCursor::at(tiles + (int64_t{first_panel} * n_k_tiles + tile) * Tile::kBytes, lane));
  const int64_t first_row = (first_panel + tile / n_k_tiles) * kTileRows + g;
  const Half2Bits lift[2] = {row_lift(row_factors, first_row), row_lift(row_factors, first_row + 8)};
  const auto cell = [&]<int h, int rh>() {
    const typename Tile::Factors factors = Tile::template factors<h, rh>(regs);
    const auto columns32 = [&]<int c>() {
      Half2Bits w[4];
      Tile::template weights<h, rh, c>(regs, factors, w);
      uint32_t* at = words + (g + 8 * rh) * kRowWords + h * 64 + c * 16 + t;
      for (int i = 0; i < 4; ++i) at[4 * i] = h2_mul(w[i], lift[rh]);
    };
    columns32.template operator()<0>();
    columns32.template operator()<1>();
    columns32.template operator()<2>();
    columns32.template operator()<3>();
  };
  cell.template operator()<0, 0>();
  cell.template operator()<0, 1>();
  cell.template operator()<1, 0>();
  cell.template operator()<1, 1>();
  __syncwarp();
  const int64_t panel = tile / n_k_tiles, k_tile = tile % n_k_tiles, row_elems = int64_t{n_k_tiles} * kTileCols;
  write_tile<kRowWords>(words, lane, power, out + panel * kTileRows * row_elems + k_tile * kTileCols, row_elems);
}

// One warp a tile.
template <QuantType type>
__global__ void pack_tiles_kernel(const std::byte* raw, int64_t row_bytes, int n_rows, int n_cols, float power,
                                  const float* row_factors, std::byte* tiles) {
  const int lane = threadIdx.x % 32;
  const int n_k_tiles = padded_cols(n_cols) / kTileCols;
  const int64_t n_panels = (n_rows + kTileRows - 1) / kTileRows;
  const int64_t tile = int64_t{blockIdx.x} * (blockDim.x / 32) + threadIdx.x / 32;
  if (tile >= n_panels * n_k_tiles) return;
  const int first_col = static_cast<int>(tile % n_k_tiles) * kTileCols;
  const int64_t tile_row_bytes = int64_t{first_col} / Qblock<type>::kElems * static_cast<int64_t>(sizeof(Qblock<type>));
  const std::byte* row[2];
  float row_power[2];
  for (int rh = 0; rh < 2; ++rh) {
    const int64_t r = tile / n_k_tiles * kTileRows + lane / 4 + 8 * rh;
    row[rh] = r < n_rows ? raw + r * row_bytes + tile_row_bytes : nullptr;
    row_power[rh] = row_factors != nullptr && r < n_rows ? power / row_factors[r] : power;
  }
  pack_lane<type>(row, n_cols - first_col, row_power, lane, tiles + tile * TileFormat<type>::kBytes);
}

template <class Tile, MmaTier tier, bool kTwoAhead>
cudaError_t launch_mma_tier(const MmaParams& params, const Launch& how) {
  constexpr MmaTierShape kShape = tier_shape(tier);
  return launch(how, matmul_mma_kernel<Tile, kShape.tokens / 8, kShape.n_panels, kTwoAhead, kShape.n_stages>, params);
}

template <class Tile>
cudaError_t launch_mma(MmaTier tier, const MmaParams& params, const Launch& how) {
  // Two tiles of registers in flight, where the file's bits are few enough for them to fit.
  constexpr bool kTwoAhead = Tile::kBytes <= 4352;
  switch (tier) {
    case MmaTier::k8Tokens:
      return launch(how, matmul_few_kernel<Tile, Tile, kTwoAhead>, params);
    case MmaTier::k16Tokens:
      return launch_mma_tier<Tile, MmaTier::k16Tokens, kTwoAhead>(params, how);
    case MmaTier::k32Tokens:
      return launch_mma_tier<Tile, MmaTier::k32Tokens, kTwoAhead>(params, how);
    case MmaTier::k64Tokens:
      break;
  }
  return launch_mma_tier<Tile, MmaTier::k64Tokens, false>(params, how);
}

template <class Tile>
cudaError_t launch_wide(int n_tokens, const MmaParams& params, const CUtensorMap& x, const Launch& how) {
  const auto kernel = n_tokens == 16   ? matmul_wide_kernel<Tile, Tile, 16>
                      : n_tokens == 32 ? matmul_wide_kernel<Tile, Tile, 32>
                      : n_tokens == 64 ? matmul_wide_kernel<Tile, Tile, 64>
                                       : matmul_wide_kernel<Tile, Tile, 128>;
  return launch(how, kernel, params, x);
}

// Of parts of two formats.
template <class Tile, class SecondTile>
cudaError_t launch_wide_pair(int n_tokens, const MmaParams& params, const CUtensorMap& x, const Launch& how) {
  const auto kernel =
      n_tokens == 32 ? matmul_wide_kernel<Tile, SecondTile, 32> : matmul_wide_kernel<Tile, SecondTile, 64>;
  return launch(how, kernel, params, x);
}

// Products of up to 8 tokens with parts of two formats.
template <class Tile, class SecondTile>
cudaError_t launch_pair(const MmaParams& params, const Launch& how) {
  return launch(how, matmul_few_kernel<Tile, SecondTile, true>, params);
}

inline Launch decode_launch(int64_t n_tiles, const Launch& how) {
  Launch sized = how;
  sized.grid = dim3(static_cast<unsigned>((n_tiles + kDecodeWarps - 1) / kDecodeWarps));
  sized.block = dim3(32 * kDecodeWarps);
  return sized;
}

template <class Tile>
cudaError_t launch_decode(const std::byte* tiles, const float* row_factors, int first_panel, int n_panels,
                          int n_k_tiles, __half* out, const Launch& how) {
  return launch(decode_launch(int64_t{n_panels} * n_k_tiles, how), decode_tiles_kernel<Tile, __half>, tiles,
                row_factors, first_panel, n_panels, n_k_tiles, Half2Bits{}, out);
}

template <class Tile>
cudaError_t launch_decode_e4m3(const std::byte* tiles, const float* row_factors, int n_panels, int n_k_tiles,
                               Half2Bits power, std::byte* out, const Launch& how) {
  return launch(decode_launch(int64_t{n_panels} * n_k_tiles, how), decode_tiles_kernel<Tile, std::byte>, tiles,
                row_factors, 0, n_panels, n_k_tiles, power, out);
}

template <QuantType type>
cudaError_t launch_pack(const std::byte* raw, int64_t row_bytes, int n_rows, int n_cols, float power,
                        const float* row_factors, std::byte* tiles, const Launch& how) {
  constexpr int kWarps = 4;
  const int64_t n_tiles = int64_t{(n_rows + kTileRows - 1) / kTileRows} * (padded_cols(n_cols) / kTileCols);
  Launch sized = how;
  sized.grid = dim3(static_cast<unsigned>((n_tiles + kWarps - 1) / kWarps));
  sized.block = dim3(32 * kWarps);
  return launch(sized, pack_tiles_kernel<type>, raw, row_bytes, n_rows, n_cols, power, row_factors, tiles);
}

template <QuantType type>
TypeKernels make_type_kernels() {
  constexpr bool kFloats = type == QuantType::kF32 || type == QuantType::kF16 || type == QuantType::kBF16;
  using Tile = std::conditional_t<kFloats, TileFormat<QuantType::kF16>, TileFormat<type>>;
  return {Tile::kBytes,        launch_mma<Tile>,         launch_wide<Tile>,
          launch_decode<Tile>, launch_decode_e4m3<Tile>, launch_pack<type>};
}

}  // namespace spate::cuda
