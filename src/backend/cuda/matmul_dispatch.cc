// The table of matrix products: which kernel, with what split of rows and of K, for how many tokens.
#include <algorithm>

#include "backend/cuda/gemm.h"
#include "backend/cuda/gemm_fp8.h"
#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_kernels.h"
#include "backend/cuda/matmul_plan.h"
#include "backend/cuda/matmul_resolve.h"
#include "backend/cuda/matmul_stream.h"
#include "backend/cuda/matmul_stream_int8.h"
#include "backend/cuda/matmul_wide.h"
#include "backend/cuda/swiglu.h"
#include "backend/cuda/tensor_map.h"
#include "backend/cuda/tile_scales.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

// d_ff outputs of gate and up are computed for this many tokens at a time on the way through cuBLASLt.
constexpr int kGemmSwigluTokens = 1024;

int64_t tiles_bytes(QuantType type, int64_t n_rows, int64_t n_cols) {
  const int64_t panels = (n_rows + kTileRows - 1) / kTileRows, tiles = (n_cols + kTileCols - 1) / kTileCols;
  return panels * tiles * type_kernels(type).tile_bytes;
}

Launch launch_of(const StreamPlan& plan, const DeviceProfile& profile, cudaStream_t stream) {
  const int cluster_log2 = plan.shape.cluster_log2;
  return {.grid = dim3(static_cast<unsigned>(plan.n_ctas >> cluster_log2), 1, 1u << cluster_log2),
          .block = dim3(static_cast<unsigned>(32 * (plan.shape.n_warps + kFinishers))),
          .shared_bytes = static_cast<size_t>(plan.shared_bytes),
          .stream = stream,
          .dependent = profile.dependent_launch,
          .cluster_z = 1 << cluster_log2};
}

// By CTAs that stay (matmul_stream.h, matmul_stream_int8.h), where it can be. Of parts of type `first` and, behind
// them, of type `second`.
bool run_stream(QuantType first, QuantType second, const MmaShape& shape, MmaParams& params,
                const DeviceProfile& profile, cudaStream_t stream) {
  const int tile_bytes = std::max(type_kernels(first).tile_bytes, type_kernels(second).tile_bytes);
  StreamKernel kernel = stream_int8_kernel(first, second);
  StreamPlan plan{};
  if (kernel != nullptr) plan = plan_stream_int8(shape, tile_bytes, first != second, profile);
  if (plan.n_ctas == 0) {
    kernel = stream_kernel(first, second);
    const ClusterRoom room =
        profile.stream_k_split > 0 ? cluster_room(profile.shared_bytes_per_block - kWideStaticBytes) : ClusterRoom{};
    if (kernel != nullptr) plan = plan_stream(shape, tile_bytes, first != second, room, profile);
  }
  if (plan.n_ctas == 0) return false;
  params.stream = plan.shape;
  const Launch how = launch_of(plan, profile, stream);
  SPATE_CUDA(kernel(params, how), "streamed product of {} tokens with {} panels of {} x {} columns of {}",
             shape.n_tokens, shape.n_slots, kTileRows, params.n_cols, quant_name(first));
  return true;
}

// Whether parts of these types can share a launch of matmul_wide.cuh.
bool takes_wide_pair(QuantType first, QuantType second, int n_tokens, const DeviceProfile& profile) {
  // Who asks for CTAs of fewer rows than those have asks for other kernels.
  return profile.takes_wide(n_tokens) && n_tokens <= kWidePairTokens &&
         (profile.mma_warps_m == 0 || profile.mma_warps_m >= 4) && wide_pair_kernel(first, second) != nullptr;
}

// No CTA has slots of two types: those of the second begin where a CTA's do, and the slots before them that have no
// panel are counted to the last part of the first type.
void align_second_type(MmaParams& params, int warps_m) {
  int padding = 0;
  for (int i = 0; i < params.n_parts; ++i) {
    MatmulPart& part = params.parts[i];
    if (i + 1 < params.n_parts && params.parts[i + 1].second && !part.second)
      padding = (warps_m - part.panel_end % warps_m) % warps_m;
    part.panel_end += padding;
  }
  params.n_slots += padding;
}

// By matmul_wide.cuh, where it can be. Of parts of type `first` and, behind them, of type `second`.
bool run_wide(QuantType first, QuantType second, const MmaShape& shape, MmaParams& params, const DeviceProfile& profile,
              cudaStream_t stream) {
  const bool is_pair = params.parts[params.n_parts - 1].second;
  if (is_pair ? !takes_wide_pair(first, second, shape.n_tokens, profile) : !profile.takes_wide(shape.n_tokens))
    return false;
  WideTypes types{shape.n_slots, std::max(type_kernels(first).tile_bytes, type_kernels(second).tile_bytes)};
  for (int i = params.n_parts - 1; i > 0 && params.parts[i].second; --i)
    types.first_slots = params.parts[i - 1].panel_end;
  const ClusterRoom& room = cluster_room(profile.shared_bytes_per_block - kWideStaticBytes);
  const WidePlan plan = plan_wide(shape, types, room, profile);
  if (plan.tokens == 0) return false;
  align_second_type(params, 1 << plan.warps_m_log2);
  params.warps_m_log2 = plan.warps_m_log2;
  params.wide = plan.shape;
  params.wide_early = plan.early_stages;
  const Launch how{.grid = dim3(static_cast<unsigned>(plan.token_groups), static_cast<unsigned>(plan.slot_groups),
                                static_cast<unsigned>(plan.cluster)),
                   .block = dim3(kWideThreads),
                   .shared_bytes = static_cast<size_t>(plan.shared_bytes),
                   .stream = stream,
                   .dependent = profile.dependent_launch,
                   .cluster_z = plan.cluster};
  const CUtensorMap x = map_activations(params.x, params.n_tokens, params.x_stride, plan.tokens);
  const auto kernel = is_pair ? wide_pair_kernel(first, second) : type_kernels(first).wide;
  SPATE_CUDA(kernel(plan.tokens, params, x, how), "wide product of {} tokens with {} panels of {} x {} tiles of {}",
             shape.n_tokens, shape.n_slots, kTileRows, shape.n_k_tiles, quant_name(first));
  return true;
}

// Parts [first, end) of the args, which share kernels; `column` of the first one's first row in y.
void run_mma(const MatmulArgs& args, int first, int end, int column, int n_tokens, const MatmulWorkspace& workspace,
             const DeviceProfile& profile, cudaStream_t stream) {
  const PackedMatrix& matrix = args.parts[first];
  MmaParams params = resolve_parts(args, {first, end, column}, n_tokens, workspace);
  const MmaShape shape{.n_tokens = n_tokens,
                       .n_slots = params.n_slots,
                       .n_k_tiles = params.n_k_tiles,
                       .swiglu = args.epilogue == Epilogue::kSwiGlu};
  const PackedMatrix& last = args.parts[end - 1];
  if (run_stream(matrix.type, same_kernels(matrix, last) ? matrix.type : last.type, shape, params, profile, stream))
    return;
  if (run_wide(matrix.type, last.type, shape, params, profile, stream)) return;
  SPATE_CHECK(same_kernels(matrix, last) || n_tokens <= tier_shape(MmaTier::k8Tokens).tokens,
              "a product of {} tokens with parts of {} and of {}", n_tokens, quant_name(matrix.type),
              quant_name(last.type));
  const MmaPlan plan = plan_mma(shape, {workspace.partial_elems, workspace.n_counters}, profile);
  SPATE_CHECK(plan.counters() <= workspace.n_counters && plan.partial_elems() <= workspace.partial_elems,
              "{} counters and {} sums for a product of {} tokens that needs {} and {}", workspace.n_counters,
              workspace.partial_elems, n_tokens, plan.counters(), plan.partial_elems());
  params.warps_m_log2 = plan.warps_m_log2;
  const Launch how{.grid = dim3(static_cast<unsigned>(plan.token_groups), static_cast<unsigned>(plan.slot_groups),
                                static_cast<unsigned>(plan.split_k)),
                   .block = dim3(kMmaThreads),
                   .shared_bytes = static_cast<size_t>(plan.shared_bytes),
                   .stream = stream,
                   .dependent = profile.dependent_launch};
  SPATE_CUDA(same_kernels(matrix, last) ? type_kernels(matrix.type).mma(plan.tier, params, how)
                                        : pair_kernel(matrix.type, last.type)(params, how),
             "product of {} tokens with {} panels of {} x {} columns of {}", n_tokens, params.n_slots, kTileRows,
             matrix.n_cols, quant_name(matrix.type));
}

// One past the last part that shares a launch with part `first`: those of its type; and behind them, for some numbers
// of tokens, those of a type with which it has a kernel.
int launch_end(const MatmulArgs& args, int first, int n_tokens, const DeviceProfile& profile) {
  const PackedMatrix& a = args.parts[first];
  int end = first + 1;
  while (end < args.n_parts && same_kernels(a, args.parts[end])) ++end;
  if (end == args.n_parts) return end;
  const PackedMatrix& b = args.parts[end];
  const bool few = n_tokens <= tier_shape(MmaTier::k8Tokens).tokens && pair_kernel(a.type, b.type) != nullptr;
  if (!few && !takes_wide_pair(a.type, b.type, n_tokens, profile)) return end;
  while (end < args.n_parts && same_kernels(b, args.parts[end])) ++end;
  return end;
}

// Of the tokens from `first` on.
FoldedNorm from_token(FoldedNorm norm, int first, int n_cols) {
  if (norm.squares == nullptr) return norm;
  norm.squares += int64_t{first} * squares_stride(n_cols);
  norm.scale += first;
  norm.next_scale += first;
  return norm;
}

int64_t decoded_elems(const PackedMatrix& matrix) {
  return int64_t{n_panels(matrix)} * kTileRows * padded_cols(matrix.n_cols);
}

void decode(const PackedMatrix& part, __half* to, const DeviceProfile& profile, cudaStream_t stream) {
  SPATE_CUDA(type_kernels(part.type).decode(
                 part.tiles, part.row_factors, 0, n_panels(part), padded_cols(part.n_cols) / kTileCols, to,
                 {.grid = {}, .block = {}, .stream = stream, .dependent = profile.dependent_launch}),
             "decoding {} x {} weights of {}", part.n_rows, part.n_cols, quant_name(part.type));
}

// Of a part that has been decoded.
void run_gemm(const MatmulArgs& args, const PackedMatrix& part, const __half* decoded, const __half* x, float* y,
              int64_t y_stride, float beta, int n_tokens, const MatmulWorkspace& workspace, cudaStream_t stream) {
  workspace.gemm->run({.x = x,
                       .w = decoded,
                       .y = y,
                       .n_tokens = n_tokens,
                       .n_rows = part.n_rows,
                       .n_cols = padded_cols(part.n_cols),
                       .y_stride = y_stride,
                       .alpha = sums_factor(args, part.decoded_log2()),
                       .beta = beta},
                      workspace.gemm_scratch, stream);
}

void swiglu(const MatmulArgs& args, int first_token, int n_tokens, const MatmulWorkspace& workspace,
            const DeviceProfile& profile, cudaStream_t stream) {
  const int d_ff = args.parts[0].n_rows;
  const int64_t stride = padded_cols(d_ff);
  SPATE_CUDA(launch_swiglu(workspace.gate_up, n_tokens, d_ff, args.ff + first_token * stride, stride,
                           {.grid = {}, .block = {}, .stream = stream, .dependent = profile.dependent_launch}),
             "SwiGLU of {} tokens by {}", n_tokens, d_ff);
}

// Gate and up, some of the tokens at a time. Where there is room for both matrices they are decoded once for all.
void run_decoded_swiglu(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace,
                        const DeviceProfile& profile, cudaStream_t stream) {
  const int d_ff = args.parts[0].n_rows, x_stride = padded_cols(args.parts[0].n_cols);
  const int64_t gate_elems = decoded_elems(args.parts[0]);
  const bool both = gate_elems + decoded_elems(args.parts[1]) <= workspace.decoded_elems;
  for (int first = 0; first < n_tokens; first += kGemmSwigluTokens) {
    const int n = std::min(kGemmSwigluTokens, n_tokens - first);
    for (int i = 0; i < 2; ++i) {
      __half* decoded = workspace.decoded + (both && i == 1 ? gate_elems : 0);
      if (first == 0 || !both) decode(args.parts[i], decoded, profile, stream);
      run_gemm(args, args.parts[i], decoded, args.x + int64_t{first} * x_stride, workspace.gate_up + i * d_ff,
               int64_t{2} * d_ff, 0.0f, n, workspace, stream);
    }
    swiglu(args, first, n, workspace, profile, stream);
  }
}

void run_decoded(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace, const DeviceProfile& profile,
                 cudaStream_t stream) {
  if (args.epilogue == Epilogue::kSwiGlu) return run_decoded_swiglu(args, n_tokens, workspace, profile, stream);
  int column = 0;
  for (int i = 0; i < args.n_parts; ++i) {
    const PackedMatrix& part = args.parts[i];
    decode(part, workspace.decoded, profile, stream);
    run_gemm(args, part, workspace.decoded, args.x, args.y + column, args.y_stride,
             args.epilogue == Epilogue::kAdd ? 1.0f : 0.0f, n_tokens, workspace, stream);
    column += part.n_rows;
  }
}

bool fits_decoded(const MatmulArgs& args, const MatmulWorkspace& workspace) {
  return std::all_of(args.parts, args.parts + args.n_parts,
                     [&](const PackedMatrix& part) { return decoded_elems(part) <= workspace.decoded_elems; });
}

}  // namespace

const TypeKernels& type_kernels(QuantType type) {
  struct Row {
    QuantType type;
    TypeKernels kernels;
  };
  static const Row kRows[] = {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  {QuantType::enumerator, make_type_kernels<QuantType::enumerator>()},
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  };
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.type == type; });
  SPATE_CHECK(row != std::end(kRows), "no kernels for {}", quant_name(type));
  return row->kernels;
}

int64_t packed_bytes(QuantType type, int64_t n_rows, int64_t n_cols) {
  const int64_t rows = (n_rows + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t factor_bytes = is_float_type(type) ? 0 : rows * static_cast<int64_t>(sizeof(float));
  return (tiles_bytes(type, n_rows, n_cols) + factor_bytes + 255) / 256 * 256;
}

void set_scale(const MatrixScale& scale, PackedMatrix& matrix, std::byte* tiles, cudaStream_t stream) {
  matrix.scale_log2 = scale.log2;
  matrix.row_factors = nullptr;
  if (scale.row_factors.empty()) return;
  const size_t n_rows = scale.row_factors.size();
  SPATE_CHECK(n_rows == static_cast<size_t>(n_panels(matrix)) * kTileRows, "{} factors for {} rows", n_rows,
              matrix.n_rows);
  std::byte* to = tiles + tiles_bytes(matrix.type, matrix.n_rows, matrix.n_cols);
  SPATE_CUDA(cudaMemcpyAsync(to, scale.row_factors.data(), n_rows * sizeof(float), cudaMemcpyHostToDevice, stream),
             "copying the factors of {} rows", n_rows);
  matrix.row_factors = reinterpret_cast<const float*>(to);
}

void pack_rows(const void* raw, int first_row, int n_rows, const PackedMatrix& matrix, std::byte* tiles,
               cudaStream_t stream) {
  SPATE_CHECK(first_row % kTileRows == 0, "packing from row {}", first_row);
  const TypeKernels& kernels = type_kernels(matrix.type);
  const int64_t panel_bytes = int64_t{padded_cols(matrix.n_cols) / kTileCols} * kernels.tile_bytes;
  SPATE_CUDA(kernels.pack(static_cast<const std::byte*>(raw), quant_bytes(matrix.type, matrix.n_cols), n_rows,
                          matrix.n_cols, power_of_two(matrix.scale_log2),
                          matrix.row_factors == nullptr ? nullptr : matrix.row_factors + first_row,
                          tiles + first_row / kTileRows * panel_bytes, {.grid = {}, .block = {}, .stream = stream}),
             "packing rows {} to {} of {} columns of {}", first_row, first_row + n_rows, matrix.n_cols,
             quant_name(matrix.type));
}

MatmulWorkspaceSize matmul_workspace_size(const MatmulDemand& demand, const DeviceProfile& profile) {
  const bool decodes = demand.max_tokens >= profile.gemm_min_tokens, fp8 = decodes && profile.prefill_fp8;
  const MmaMemory memory = mma_memory(demand.max_slots, profile);
  return {.partial_elems = memory.partial_elems,
          .gate_up_elems = int64_t{2} * demand.d_ff * std::min(demand.max_tokens, kGemmSwigluTokens),
          .decoded_elems = decodes ? demand.decoded_elems : 0,
          .gemm_scratch_bytes = decodes ? Gemm::kScratchBytes : 0,
          .n_counters = memory.n_counters,
          .fp8_x_bytes = fp8 ? fp8_x_bytes(demand.max_tokens, demand.max_cols) : 0,
          .fp8_tokens = fp8 ? demand.max_tokens : 0};
}

void matmul(const MatmulArgs& args, int n_tokens, const MatmulWorkspace& workspace, const DeviceProfile& profile,
            cudaStream_t stream) {
  SPATE_CHECK(args.n_parts >= 1 && args.n_parts <= kMaxParts, "{} matrices in a product", args.n_parts);
  if (n_tokens == 0) return;
  const bool folded = args.norm.squares != nullptr || args.next.x != nullptr;
  SPATE_CHECK(!folded || can_fold_norm(n_tokens, profile), "a norm is folded into a product of {} tokens", n_tokens);
  SPATE_CHECK(args.next.x == nullptr || (args.epilogue == Epilogue::kAdd && args.n_parts == 1),
              "activations are wanted of a product of {} matrices that does not add", args.n_parts);
  if (n_tokens >= profile.gemm_min_tokens && can_multiply_fp8(args, n_tokens, workspace)) {
    multiply_fp8(args, n_tokens, workspace, profile, stream);
    return;
  }
  if (n_tokens >= profile.gemm_min_tokens && workspace.gemm != nullptr && fits_decoded(args, workspace)) {
    run_decoded(args, n_tokens, workspace, profile, stream);
    return;
  }
  if (args.epilogue == Epilogue::kSwiGlu && !same_kernels(args.parts[0], args.parts[1])) {
    const int d_ff = args.parts[0].n_rows;
    for (int first = 0; first < n_tokens; first += kGemmSwigluTokens) {
      const int n = std::min(kGemmSwigluTokens, n_tokens - first);
      MatmulArgs separate = args;
      separate.x += int64_t{first} * padded_cols(args.parts[0].n_cols);
      separate.norm = from_token(args.norm, first, args.parts[0].n_cols);
      separate.epilogue = Epilogue::kStore;
      separate.y = workspace.gate_up;
      separate.y_stride = int64_t{2} * d_ff;
      run_mma(separate, 0, 1, 0, n, workspace, profile, stream);
      run_mma(separate, 1, 2, d_ff, n, workspace, profile, stream);
      swiglu(args, first, n, workspace, profile, stream);
    }
    return;
  }
  int column = 0;
  for (int first = 0; first < args.n_parts;) {
    const int end = launch_end(args, first, n_tokens, profile);
    run_mma(args, first, end, column, n_tokens, workspace, profile, stream);
    for (; first < end; ++first) column += args.parts[first].n_rows;
  }
}

}  // namespace spate::cuda
