// Attention of a step: checks, then the launches of its decode rows and its prefill tiles.
#include <bit>
#include <numbers>

#include "backend/cuda/attention_params.h"
#include "base/check.h"

namespace spate::cuda {

void attention(const AttentionArgs& args, const AttentionGrid& grid, cudaStream_t stream) {
  SPATE_CHECK(args.n_kv_heads > 0 && args.n_heads % args.n_kv_heads == 0 && args.scale > 0,
              "{} heads over {} KV heads, scale {}", args.n_heads, args.n_kv_heads, args.scale);
  SPATE_CHECK(args.kv.page_bytes % kKvChunkBytes == 0 &&
                  args.kv.page_bytes >= kv_page_bytes(args.kv.type, args.n_kv_heads, args.head_dim),
              "pages of {} bytes", args.kv.page_bytes);
  AttentionParams params{.q = args.q,
                         .kv = args.kv.pages,
                         .page_bytes = args.kv.page_bytes,
                         .pages = args.batch.pages,
                         .work = args.work,
                         .decode_ctas = args.work.decode_ctas,
                         .decode_stages = grid.decode_stages,
                         .decode_slots_log2 = std::countr_zero(static_cast<unsigned>(grid.decode_stages)),
                         .partials = args.scratch.prefill_partials,
                         .counters = args.scratch.counters,
                         .scale_log2 = args.scale * std::numbers::log2e_v<float>,
                         .n_heads = args.n_heads,
                         .n_kv_heads = args.n_kv_heads,
                         .group = args.n_heads / args.n_kv_heads,
                         .out = args.out,
                         .out_stride = padded_cols(args.n_heads * args.head_dim)};
  if (grid.prefill_ctas > 0) launch_prefill(args, params, grid, stream);
  params.partials = args.scratch.decode_partials;
  if (grid.decode_rows == 0) return;
  if (grid.decode_cluster > 0) return launch_decode_clusters(args, params, grid, stream);
  launch_decode(args, params, grid, stream);
}

}  // namespace spate::cuda
