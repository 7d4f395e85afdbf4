// Between the file's order of a row's qblocks and the panels that the CPU kernels read (panel_layout.h). Lossless in
// both directions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/quant_type.h"

namespace spate::cpu {

// Re-lays n_valid (1..16) rows of n_cols columns, one after the other in the file's order, into a panel; the
// panel's other rows become zero bits. Neither pointer need be aligned.
void pack_panel(QuantType type, const std::byte* rows, int n_valid, int64_t n_cols, std::byte* panel);

// The inverse: the first n_valid rows of a panel, in the file's order.
void unpack_panel(QuantType type, const std::byte* panel, int n_valid, int64_t n_cols, std::byte* rows);

}  // namespace spate::cpu
