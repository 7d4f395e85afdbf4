// What an emulated CUtensorMap holds: runtime.cc writes it, copies.cc reads it.
#pragma once
#include <cstdint>
#include <cuda.h>

namespace emu {

struct TensorMap {
  static constexpr uint64_t kMagic = 0x7e45a9;
  uint64_t magic;
  const char* data;  // [n_rows, n_cols]
  uint64_t n_cols, n_rows, row_bytes;
  uint32_t box_cols, box_rows;
  uint32_t elem_bytes;
  uint32_t swizzle;  // CUtensorMapSwizzle
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

}  // namespace emu
