// Rows of the embedding table, decoded from the file's own qblocks.
#include <algorithm>

#include "backend/cuda/launch.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/qblock_element.cuh"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kThreads = 256;
// A row is spread over as many CTAs as make this many altogether: what a thread decodes of it one element after the
// other it waits for one after the other (64 rows of 4096 on an H200, 2026-11-23: 10.3 us with a CTA a row, where 32
// rows spread over sixteen take 2.6).
constexpr int kSpreadCtas = 4096;

// blockIdx.x: token. Rows of padding become zeros: what follows computes on them.
template <QuantType type>
__global__ void __launch_bounds__(kThreads) embed_kernel(const EmbedArgs args) {
  release_successor();
  wait_for_predecessor();
  const int t = blockIdx.x;
  const bool exists = !args.batch.places[t].is_padding();
  int64_t token = 0;
  if (exists) {
    const int from_row = args.batch.from_row[t];
    token = from_row >= 0 ? args.previous_tokens[from_row] : args.batch.tokens[t];
  }
  const auto* row = static_cast<const std::byte*>(args.table) + token * args.row_bytes;
  float* residual = args.residual + static_cast<int64_t>(t) * args.d_model;
  for (int k = blockIdx.y * kThreads + threadIdx.x; k < args.d_model; k += gridDim.y * kThreads)
    residual[k] = exists ? element<type>(row, k) : 0.0f;
}

using Kernel = void (*)(EmbedArgs);

Kernel kernel_for(QuantType type) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return embed_kernel<QuantType::enumerator>;
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  return nullptr;
}

}  // namespace

void embed(const EmbedArgs& args, int n_tokens, cudaStream_t stream) {
  const Kernel kernel = kernel_for(args.type);
  SPATE_CHECK(kernel != nullptr && n_tokens > 0, "{} tokens of type {}", n_tokens, static_cast<uint32_t>(args.type));
  const int spread = std::clamp(kSpreadCtas / n_tokens, 1, (args.d_model + kThreads - 1) / kThreads);
  SPATE_CUDA(
      launch({.grid = dim3(n_tokens, spread), .block = kThreads, .stream = stream, .dependent = args.dependent_launch},
             kernel, args),
      "embedding {} tokens of {}", n_tokens, args.d_model);
}

}  // namespace spate::cuda
