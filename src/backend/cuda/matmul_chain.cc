#include "backend/cuda/matmul_chain.h"

#include <algorithm>
#include <optional>

#include "backend/cuda/matmul_kernels.h"
#include "backend/cuda/matmul_plan.h"
#include "backend/cuda/matmul_resolve.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

constexpr int kLeastStages = 3;

// The layout for so many warps and stages; 0 bytes: it does not fit.
void lay_out(std::span<const ChainLink> links, int tile_bytes, ChainPlan& plan) {
  const StreamShape& first = plan.shapes[0];
  int activations = 0, sums = 0, place_bytes = 0;
  for (size_t i = 0; i < links.size(); ++i) {
    const StreamBytes bytes = int8_stream(links[i].n_k_tiles, links[i].two_types, tile_bytes);
    const StreamLayout alone = StreamLayout::of(plan.shapes[i], bytes, 0);
    activations = std::max(activations, bytes.activations);
    sums = std::max(sums, alone.barriers - alone.sums);
    plan.places[i] = place_bytes;
    place_bytes += alone.n_bytes - alone.places(first);
  }
  StreamLayout& at = plan.at;
  at.ring = activations;
  at.ring_of_warp = first.n_stages * tile_bytes;
  at.sums = at.ring + first.n_warps * at.ring_of_warp;
  at.barriers = at.sums + sums;
  for (size_t i = 0; i < links.size(); ++i) plan.places[i] += at.places(first);
  at.n_bytes = at.places(first) + place_bytes;
}

// The two types of a chain's parts, the first one the kernel's first. None: there is no kernel.
struct ChainTypes {
  QuantType first, second;
};
std::optional<ChainTypes> types_of(std::span<const MatmulArgs> products) {
  QuantType types[2];
  int n = 0;
  for (const MatmulArgs& product : products) {
    for (int i = 0; i < product.n_parts; ++i) {
      const QuantType type = product.parts[i].type;
      if (std::find(types, types + n, type) != types + n) continue;
      if (n == 2) return std::nullopt;
      types[n++] = type;
    }
  }
  const ChainTypes either = {types[0], types[n - 1]}, other = {either.second, either.first};
  if (chain_kernel(either.first, either.second) != nullptr) return either;
  if (chain_kernel(other.first, other.second) != nullptr) return other;
  return std::nullopt;
}

ChainLink link_of(const MatmulArgs& args, const MmaParams& params) {
  const bool first = std::any_of(params.parts, params.parts + params.n_parts, [](const auto& p) { return !p.second; });
  const bool second = std::any_of(params.parts, params.parts + params.n_parts, [](const auto& p) { return p.second; });
  return {.n_slots = params.n_slots,
          .n_k_tiles = params.n_k_tiles,
          .swiglu = args.epilogue == Epilogue::kSwiGlu,
          .two_types = first && second};
}

}  // namespace

ChainPlan plan_chain(std::span<const ChainLink> links, int tile_bytes, const DeviceProfile& profile) {
  ChainPlan plan{};
  for (int n_warps = std::min(profile.stream_int8_warps / 2 * 2, kMaxChainWarps); n_warps >= 4; n_warps -= 2) {
    for (size_t i = 0; i < links.size(); ++i) {
      const int group = links[i].swiglu ? 2 : 1, n_groups = links[i].n_slots / group;
      plan.shapes[i] = {.n_warps = n_warps};
      cut_segments(plan.shapes[i], links[i].n_k_tiles, (n_groups + profile.n_sms - 1) / profile.n_sms * group);
    }
    for (int n_stages = 8; n_stages >= kLeastStages; --n_stages) {
      for (size_t i = 0; i < links.size(); ++i) plan.shapes[i].n_stages = n_stages;
      lay_out(links, tile_bytes, plan);
      if (plan.at.n_bytes > stream_shared_bytes(profile)) continue;
      plan.n_ctas = profile.n_sms;
      return plan;
    }
  }
  return {};
}

bool matmul_chain(std::span<const MatmulArgs> products, const MatmulWorkspace& workspace, const DeviceProfile& profile,
                  cudaStream_t stream) {
  SPATE_CHECK(!products.empty() && products.size() <= kMaxChain, "a chain of {} products", products.size());
  if (!profile.chain || profile.stream_int8_tokens == 0) return false;
  const std::optional<ChainTypes> types = types_of(products);
  if (!types) return false;
  ChainParams params{};
  ChainLink links[kMaxChain];
  params.n = static_cast<int>(products.size());
  for (int i = 0; i < params.n; ++i) {
    params.of[i] = resolve_parts(products[i], {0, products[i].n_parts, 0}, types->first, 1, workspace);
    links[i] = link_of(products[i], params.of[i]);
  }
  const int tile_bytes = std::max(type_kernels(types->first).tile_bytes, type_kernels(types->second).tile_bytes);
  const ChainPlan plan = plan_chain({links, products.size()}, tile_bytes, profile);
  if (plan.n_ctas == 0) return false;
  for (int i = 0; i < params.n; ++i) {
    params.of[i].stream = plan.shapes[i];
    params.places[i] = plan.places[i];
  }
  params.at = plan.at;
  params.arrivals = workspace.arrivals;
  const Launch how{.grid = dim3(static_cast<unsigned>(plan.n_ctas)),
                   .block = dim3(static_cast<unsigned>(32 * (plan.shapes[0].n_warps + kFinishers))),
                   .shared_bytes = static_cast<size_t>(plan.at.n_bytes),
                   .stream = stream,
                   .dependent = profile.dependent_launch,
                   .all_at_once = true};
  SPATE_CUDA(chain_kernel(types->first, types->second)(params, how), "chain of {} products, the first {} x {} of {}",
             params.n, products[0].parts[0].n_rows, products[0].parts[0].n_cols, quant_name(types->first));
  return true;
}

}  // namespace spate::cuda
