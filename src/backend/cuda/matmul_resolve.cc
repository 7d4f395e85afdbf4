#include "backend/cuda/matmul_resolve.h"

#include "backend/cuda/tile_scales.h"

namespace spate::cuda {

bool is_float_type(QuantType type) {
  return type == QuantType::kF16 || type == QuantType::kBF16 || type == QuantType::kF32;
}

bool same_kernels(const PackedMatrix& a, const PackedMatrix& b) {
  return a.type == b.type || (is_float_type(a.type) && is_float_type(b.type));
}

int n_panels(const PackedMatrix& matrix) {
  return (matrix.n_rows + kTileRows - 1) / kTileRows;
}

float sums_factor(const MatmulArgs& args, int log2) {
  return args.x_scale * power_of_two(-log2);
}

MmaParams resolve_parts(const MatmulArgs& args, const PartRange& range, int n_tokens,
                        const MatmulWorkspace& workspace) {
  const PackedMatrix& matrix = args.parts[range.first];
  MmaParams params{.x = args.x,
                   .x_stride = padded_cols(matrix.n_cols),
                   .n_tokens = n_tokens,
                   .n_k_tiles = padded_cols(matrix.n_cols) / kTileCols,
                   .parts = {},
                   .n_parts = range.end - range.first,
                   .n_slots = 0,
                   .epilogue = args.epilogue,
                   .y = args.y,
                   .y_stride = args.y_stride,
                   .ff = args.ff,
                   .ff_stride = padded_cols(matrix.n_rows),
                   .partials = workspace.partials,
                   .counters = workspace.counters,
                   .warps_m_log2 = 0,
                   .stream = {},
                   .wide = {},
                   .wide_early = 0,
                   .norm = args.norm,
                   .next = args.next,
                   .n_cols = matrix.n_cols};
  int column = range.column;
  for (int i = range.first; i < range.end; ++i) {
    const PackedMatrix& part = args.parts[i];
    params.n_slots += n_panels(part);
    params.parts[i - range.first] = {.tiles = part.tiles,
                                     .panel_end = params.n_slots,
                                     .n_rows = part.n_rows,
                                     .column = column,
                                     .factor = sums_factor(args, part.scale_log2),
                                     .row_factors = part.row_factors,
                                     .second = !same_kernels(matrix, part)};
    column += part.n_rows;
  }
  return params;
}

}  // namespace spate::cuda
