#include "backend/cuda/gemm_fp8.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/e4m3.h"
#include "backend/cuda/fp8_rows.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/matmul_kernels.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

// Scales that differ by up to this power of two are evened out: it costs the larger one as many of the 15 octaves in
// which E4M3 has its full precision, and weights of one matrix seldom spread over more than ten.
constexpr int kEvenOutLog2 = 3;

// cuBLASLt is asked for products of whole sixteens of tokens alone: it has FP8 kernels for these with every number of
// columns. What the last tokens of such a sixteen hold does not matter.
constexpr int kTokens = 16;

constexpr int64_t whole_tokens(int64_t n_tokens) {
  return (n_tokens + kTokens - 1) / kTokens * kTokens;
}

int n_panels(const PackedMatrix& matrix) {
  return (matrix.n_rows + kTileRows - 1) / kTileRows;
}
int n_k_tiles(const PackedMatrix& matrix) {
  return padded_cols(matrix.n_cols) / kTileCols;
}

// Of the weights in E4M3: weight * 2^this.
int total_log2(const PackedMatrix& matrix) {
  return matrix.decoded_log2() + matrix.fp8_log2;
}

std::span<const PackedMatrix> parts_of(const MatmulArgs& args) {
  return {args.parts, static_cast<size_t>(args.n_parts)};
}
int total_rows(const MatmulArgs& args) {
  int n = 0;
  for (const PackedMatrix& part : parts_of(args)) n += part.n_rows;
  return n;
}

// The products of all parts lie where the other ways keep gate and up.
int64_t product_elems(const MatmulWorkspace& workspace) {
  return workspace.gate_up_elems * static_cast<int64_t>(sizeof(float) / sizeof(__nv_bfloat16));
}
std::byte* decoded_bytes(const MatmulWorkspace& workspace) {
  return reinterpret_cast<std::byte*>(workspace.decoded);
}

// Decodes all parts, one behind the other.
void decode(const MatmulArgs& args, const Fp8Groups& groups, const MatmulWorkspace& workspace, const Launch& how) {
  std::byte* to = decoded_bytes(workspace);
  for (int g = 0; g < groups.n; ++g) {
    const Fp8Group& group = groups.group[g];
    for (int i = group.first; i < group.end; ++i) {
      const PackedMatrix& part = args.parts[i];
      SPATE_CUDA(type_kernels(part.type).decode_e4m3(part.tiles, part.row_factors, n_panels(part), n_k_tiles(part),
                                                     half2_power(group.log2 - part.decoded_log2()), to, how),
                 "decoding {} x {} weights of {} to E4M3", part.n_rows, part.n_cols, quant_name(part.type));
      to += int64_t{part.n_rows} * padded_cols(part.n_cols);
    }
  }
}

// Tokens [first, first + n).
void multiply(const MatmulArgs& args, const Fp8Groups& groups, int first, int n, const MatmulWorkspace& workspace,
              const DeviceProfile& profile, cudaStream_t stream) {
  const int n_cols = padded_cols(args.parts[0].n_cols), rows = total_rows(args);
  int64_t column = 0;
  for (int g = 0; g < groups.n; ++g) {
    const Fp8Group& group = groups.group[g];
    workspace.gemm->run({.x = workspace.fp8.x + int64_t{first} * n_cols,
                         .w = decoded_bytes(workspace) + column * n_cols,
                         .y = reinterpret_cast<__nv_bfloat16*>(workspace.gate_up) + column,
                         .n_tokens = static_cast<int>(whole_tokens(n)),
                         .n_rows = group.n_rows,
                         .n_cols = n_cols,
                         .y_stride = rows,
                         .alpha = std::ldexp(args.x_scale, -group.log2),
                         .beta = 0,
                         .types = profile.fp8_fast_sums ? GemmTypes::kFp8FastSums : GemmTypes::kFp8},
                        workspace.gemm_scratch, stream);
    column += group.n_rows;
  }
}

// The products of tokens [first, first + n) become what the epilogue says.
void finish(const MatmulArgs& args, int first, int n, const MatmulWorkspace& workspace, const Launch& how) {
  const Fp8Product of{.product = reinterpret_cast<const __nv_bfloat16*>(workspace.gate_up),
                      .factor = workspace.fp8.factors + first,
                      .n_tokens = n,
                      .n_rows = total_rows(args)};
  if (args.epilogue == Epilogue::kSwiGlu) {
    const int64_t stride = padded_cols(args.parts[0].n_rows);
    SPATE_CUDA(launch_swiglu_rows(of, args.ff + first * stride, stride, how), "SwiGLU of {} tokens by {}", n,
               args.parts[0].n_rows);
  } else {
    SPATE_CUDA(
        launch_scale_rows(of, args.epilogue == Epilogue::kAdd, args.y + first * args.y_stride, args.y_stride, how),
        "scaling the products of {} tokens by {} rows", n, of.n_rows);
  }
}

}  // namespace

Fp8Groups group_parts(std::span<const PackedMatrix> parts) {
  Fp8Groups groups;
  int least = 0, most = 0;
  for (int i = 0; i < static_cast<int>(parts.size()); ++i) {
    const int log2 = total_log2(parts[i]);
    const bool joins = groups.n > 0 && std::max(most, log2) - std::min(least, log2) <= kEvenOutLog2;
    if (!joins) groups.group[groups.n++] = {.first = i, .end = i, .n_rows = 0, .log2 = log2};
    least = joins ? std::min(least, log2) : log2;
    most = joins ? std::max(most, log2) : log2;
    Fp8Group& group = groups.group[groups.n - 1];
    group.end = i + 1;
    group.n_rows += parts[i].n_rows;
    group.log2 = least;
  }
  return groups;
}

int64_t fp8_x_bytes(int max_tokens, int max_cols) {
  return whole_tokens(max_tokens) * padded_cols(max_cols);
}

bool can_multiply_fp8(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace) {
  const int64_t n_cols = padded_cols(args.parts[0].n_cols), rows = total_rows(args);
  if (workspace.gemm == nullptr || n_tokens > workspace.fp8.max_tokens ||
      whole_tokens(n_tokens) * n_cols > workspace.fp8.x_bytes)
    return false;
  if (rows * n_cols > workspace.decoded_elems * static_cast<int64_t>(sizeof(__half)) ||
      kTokens * rows > product_elems(workspace))
    return false;
  if (args.epilogue != Epilogue::kSwiGlu &&
      (args.y_stride % 4 != 0 || reinterpret_cast<uintptr_t>(args.y) % sizeof(float4) != 0))
    return false;
  return std::ranges::all_of(parts_of(args), [](const PackedMatrix& part) {
    return part.fp8_log2 != PackedMatrix::kFp8NotMeasured && part.n_rows % kTileRows == 0;
  });
}

void multiply_fp8(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace, const DeviceProfile& profile,
                  cudaStream_t stream) {
  const Launch how{.grid = {}, .block = {}, .stream = stream, .dependent = profile.dependent_launch};
  const int n_cols = padded_cols(args.parts[0].n_cols);
  SPATE_CUDA(launch_quantise_rows(args.x, n_tokens, n_cols, workspace.fp8.x, workspace.fp8.factors, how),
             "quantising {} tokens of {} columns to E4M3", n_tokens, n_cols);
  const Fp8Groups groups = group_parts(parts_of(args));
  decode(args, groups, workspace, how);
  // As few pieces as the products' memory allows, all of about a length.
  const int64_t most = product_elems(workspace) / total_rows(args) / kTokens * kTokens;
  const auto n_pieces = static_cast<int>((n_tokens + most - 1) / most);
  const auto length = static_cast<int>(whole_tokens((n_tokens + n_pieces - 1) / n_pieces));
  for (int first = 0; first < n_tokens; first += length) {
    const int n = std::min(length, n_tokens - first);
    multiply(args, groups, first, n, workspace, profile, stream);
    finish(args, first, n, workspace, how);
  }
}

void measure_fp8_scales(std::span<PackedMatrix* const> matrices, const MatmulWorkspace& workspace,
                        cudaStream_t stream) {
  // A place for each matrix of a batch, in memory that no step is using yet.
  auto* largest = reinterpret_cast<uint32_t*>(workspace.fp8.factors);
  const auto batch = static_cast<size_t>(workspace.fp8.max_tokens);
  SPATE_CHECK(batch > 0, "no memory to measure {} matrices in", matrices.size());
  const Launch how{.grid = {}, .block = {}, .stream = stream};
  std::vector<uint32_t> host(batch);
  for (size_t first = 0; first < matrices.size(); first += batch) {
    const size_t n = std::min(batch, matrices.size() - first);
    const auto measured = [&](size_t i) {
      const PackedMatrix& matrix = *matrices[first + i];
      return int64_t{n_panels(matrix)} * kTileRows * padded_cols(matrix.n_cols) <= workspace.decoded_elems;
    };
    SPATE_CUDA(cudaMemsetAsync(largest, 0, n * sizeof(uint32_t), stream), "clearing {} magnitudes", n);
    for (size_t i = 0; i < n; ++i) {
      const PackedMatrix& matrix = *matrices[first + i];
      if (!measured(i)) continue;
      const int64_t n_elems = int64_t{n_panels(matrix)} * kTileRows * padded_cols(matrix.n_cols);
      SPATE_CUDA(
          type_kernels(matrix.type)
              .decode(matrix.tiles, matrix.row_factors, 0, n_panels(matrix), n_k_tiles(matrix), workspace.decoded, how),
          "decoding {} x {} weights of {}", matrix.n_rows, matrix.n_cols, quant_name(matrix.type));
      SPATE_CUDA(launch_largest_magnitude(workspace.decoded, n_elems, largest + i, how),
                 "looking for the largest of {} weights", n_elems);
    }
    SPATE_CUDA(cudaMemcpyAsync(host.data(), largest, n * sizeof(uint32_t), cudaMemcpyDeviceToHost, stream),
               "copying {} magnitudes", n);
    SPATE_CUDA(cudaStreamSynchronize(stream), "measuring {} matrices", n);
    for (size_t i = 0; i < n; ++i)
      if (measured(i)) matrices[first + i]->fp8_log2 = e4m3_scale_log2(host[i]);
  }
}

}  // namespace spate::cuda
