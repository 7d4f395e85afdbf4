// Streamed int8 products of the K-quants and IQ4_XS, and of those pairs of them that the mixes put side by side
// (matmul_pairs.cu).
#include <algorithm>
#include <iterator>

#include "backend/cuda/matmul_stream_int8.cuh"

namespace spate::cuda {

StreamInt8Kernel stream_int8_kernel_of_superblocks(QuantType first, QuantType second) {
  using enum QuantType;
  struct Row {
    QuantType first, second;
    StreamInt8Kernel kernel;
  };
  static constexpr Row kRows[] = {
      {kQ4_K, kQ4_K, launch_stream_int8<kQ4_K>},        {kQ5_K, kQ5_K, launch_stream_int8<kQ5_K>},
      {kQ6_K, kQ6_K, launch_stream_int8<kQ6_K>},        {kQ3_K, kQ3_K, launch_stream_int8<kQ3_K>},
      {kQ2_K, kQ2_K, launch_stream_int8<kQ2_K>},        {kIQ4_XS, kIQ4_XS, launch_stream_int8<kIQ4_XS>},
      {kQ4_K, kQ6_K, launch_stream_int8<kQ4_K, kQ6_K>}, {kQ4_K, kQ5_K, launch_stream_int8<kQ4_K, kQ5_K>},
      {kQ5_K, kQ6_K, launch_stream_int8<kQ5_K, kQ6_K>}, {kQ3_K, kQ4_K, launch_stream_int8<kQ3_K, kQ4_K>},
      {kQ3_K, kQ5_K, launch_stream_int8<kQ3_K, kQ5_K>}, {kQ2_K, kQ3_K, launch_stream_int8<kQ2_K, kQ3_K>},
      {kQ2_K, kQ4_K, launch_stream_int8<kQ2_K, kQ4_K>},
  };
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows),
                                 [&](const Row& r) { return r.first == first && r.second == second; });
  return row == std::end(kRows) ? nullptr : row->kernel;
}

}  // namespace spate::cuda
