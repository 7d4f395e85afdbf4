#include "backend/cuda/matmul_plan.h"

#include <algorithm>
#include <bit>

#include "backend/cuda/matmul_few.cuh"
#include "backend/cuda/matmul_stream.h"
#include "backend/cuda/matmul_stream_int8.h"
#include "backend/cuda/matmul_wide.h"

namespace spate::cuda {

namespace {

// Activations that a CTA of the smallest tier keeps: three such CTAs fit on an SM of the H200.
constexpr int kResidentBytes = 72 << 10;

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Shared memory of a CTA that takes n_k_tiles of K.
int shared_bytes(MmaTier tier, int n_tokens, int n_k_tiles, int warps_m) {
  const MmaTierShape shape = tier_shape(tier);
  const int octets = shape.tokens / 8;
  const int activations = tier == MmaTier::k8Tokens
                              ? (n_k_tiles * kTokenTileBytes) << shared_tokens_log2(octets, n_tokens)
                              : stage_bytes(octets, n_tokens, warps_m) * shape.n_stages;
  return std::max(activations, exchange_bytes(octets, shape.n_panels, warps_m));
}

// How a product is cut up. Measured on an H200 with Q4_K matrices of an 8B model, 2026-11-22
// (docs/performance.md): matrices whose panels come many times round want CTAs of many rows, which read the activations
// less often. The others want K shared out inside the CTA: a split between CTAs costs several microseconds, and pays
// only where SMs would stand idle. The H200 itself now comes here with up to 8 tokens alone.
struct Cut {
  int warps_m_log2;
  bool split_k;
};

Cut choose_cut(MmaTier tier, int n_tokens, int n_slots, int n_k_tiles, const DeviceProfile& profile) {
  const bool many = n_slots >= 8 * profile.n_sms, most = n_slots >= 32 * profile.n_sms;
  const bool some = n_slots * 2 >= 5 * profile.n_sms;
  switch (tier) {
    case MmaTier::k8Tokens:
      return {most ? 3 : some || (n_tokens > 2 && n_k_tiles > 32) ? 1 : 0, false};
    case MmaTier::k16Tokens:
      return {many ? 3 : 1, !some};
    case MmaTier::k32Tokens:
      return {many ? 3 : 1, false};
    case MmaTier::k64Tokens:
      break;
  }
  return {many ? 3 : 2, false};
}

// The least octets that hold the tokens; two groups of 32 rather than one of 64 where the matrix is small, which alone
// would leave SMs idle.
MmaTier choose_tier(int n_tokens, int n_slots, const DeviceProfile& profile) {
  if (n_tokens <= 8) return MmaTier::k8Tokens;
  if (n_tokens <= 16) return MmaTier::k16Tokens;
  return n_tokens <= 32 || n_slots < 8 * profile.n_sms ? MmaTier::k32Tokens : MmaTier::k64Tokens;
}

// Sums of one CTA.
int64_t cta_elems(MmaTier tier, int warps_m) {
  const MmaTierShape shape = tier_shape(tier);
  return int64_t{shape.tokens} * warps_m * shape.n_panels * kTileRows;
}

}  // namespace

int64_t MmaPlan::partial_elems() const {
  return split_k == 1 ? 0 : cta_elems(tier, 1 << warps_m_log2) * slot_groups * token_groups * split_k;
}

MmaPlan plan_mma(const MmaShape& shape, const MmaMemory& memory, const DeviceProfile& profile) {
  MmaPlan plan{};
  plan.tier = choose_tier(shape.n_tokens, shape.n_slots, profile);
  const MmaTierShape tier = tier_shape(plan.tier);
  const Cut cut = choose_cut(plan.tier, shape.n_tokens, shape.n_slots, shape.n_k_tiles, profile);
  plan.warps_m_log2 = cut.warps_m_log2;
  if (profile.mma_warps_m != 0)
    plan.warps_m_log2 = std::bit_width(static_cast<unsigned>(std::min(profile.mma_warps_m, kMmaWarps))) - 1;
  if (shape.swiglu && tier.n_panels == 1) plan.warps_m_log2 = std::max(plan.warps_m_log2, 1);
  // What the device's shared memory holds decides first: fewer rows of K at once, or fewer tiles of it.
  int min_split = 1;
  if (plan.tier == MmaTier::k8Tokens) {
    const int budget = std::min(kResidentBytes, profile.shared_bytes_per_block);
    while (min_split < shape.n_k_tiles && shared_bytes(plan.tier, shape.n_tokens, ceil_div(shape.n_k_tiles, min_split),
                                                       1 << plan.warps_m_log2) > budget)
      ++min_split;
  } else {
    while (plan.warps_m_log2 < 3 && shared_bytes(plan.tier, shape.n_tokens, shape.n_k_tiles, 1 << plan.warps_m_log2) >
                                        profile.shared_bytes_per_block)
      ++plan.warps_m_log2;
  }
  const int warps_m = 1 << plan.warps_m_log2;
  plan.slot_groups = ceil_div(shape.n_slots, warps_m * tier.n_panels);
  plan.token_groups = ceil_div(shape.n_tokens, tier.tokens);
  const int ctas = plan.slot_groups * plan.token_groups;
  plan.split_k = 1;
  if (ctas <= memory.n_counters) {
    // A split that fills the device once, not one CTA more; at least a tile a warp; and what the memory holds.
    const int fill = cut.split_k || 2 * ctas < profile.n_sms ? profile.n_sms * profile.split_k_ctas_per_sm / ctas : 1;
    const int wanted = profile.mma_split_k != 0 ? profile.mma_split_k : fill;
    const int64_t held = memory.partial_elems / (cta_elems(plan.tier, warps_m) * ctas);
    plan.split_k = static_cast<int>(std::min({int64_t{wanted}, int64_t{shape.n_k_tiles} * warps_m / kMmaWarps, held}));
  }
  plan.split_k = std::max(plan.split_k, min_split);
  plan.shared_bytes = shared_bytes(plan.tier, shape.n_tokens, ceil_div(shape.n_k_tiles, plan.split_k), warps_m);
  return plan;
}

namespace {

// What the panels of CTAs that stay are cut for: slots of a cluster (of one CTA where K is not shared) and the chunks
// that its CTAs have of each.
struct StreamWork {
  int slots;  // of the cluster that has most
  int most_chunks, least_chunks;
};

// The length with which the CTA that has most panels is done soonest, if a segment costs a quarter of a chunk besides
// its chunks.
void choose_segments(StreamShape& shape, const StreamWork& work) {
  constexpr int kLongest = 8;
  const int shortest = ceil_div(work.most_chunks, shape.n_warps);
  int least = 0;
  for (int chunks = shortest; chunks <= std::max(shortest, kLongest) || least == 0; ++chunks) {
    const int n_segments = ceil_div(work.most_chunks, chunks);
    if (ceil_div(work.least_chunks, chunks) != n_segments) continue;  // all CTAs of a cluster have as many
    const int cost = ceil_div(work.slots * n_segments, shape.n_warps) * (4 * chunks + 1);
    if (least != 0 && cost >= least) continue;
    least = cost;
    shape.segment_chunks = chunks;
    shape.n_segments = n_segments;
  }
}

// Twice the panels that the warps are at, so that the sums of the last round are finished beside this one's; of a
// cluster's, a CTA's share, and no more than it ever has: the sums of all CTAs' segments take room.
void find_places(StreamShape& shape, const StreamWork& work, int slots_per_group) {
  const int panels_at_once = ceil_div(shape.n_warps, shape.n_segments);
  int places = std::max(2 * panels_at_once, 4);
  if (shape.cluster_log2 > 0) {
    const int n_ctas = 1 << shape.cluster_log2;
    places = std::min(2 * std::max(ceil_div(panels_at_once, n_ctas), slots_per_group),
                      ceil_div(work.slots / slots_per_group, n_ctas) * slots_per_group);
  }
  shape.places_log2 = std::bit_width(static_cast<unsigned>(places - 1));
}

int stream_shared_bytes(const DeviceProfile& profile) {
  constexpr int kStaticBytes = 1024;  // at most, of these kernels' own
  return profile.shared_bytes_per_block - kStaticBytes;
}

// What plans of CTAs that stay differ in.
struct StreamWay {
  StreamBytes bytes;
  int chunks_per_tile, tokens_log2;
  int most_warps;
  int cluster_log2;
  int n_clusters;  // that run at once
  int early_kib;   // DeviceProfile's
};

// Stages of all rings of a CTA that are filled before its predecessor has ended. What an SM asks memory for comes in
// the order in which it asks: activations, and whatever else the end of the predecessor lets a CTA ask for, wait for
// the weights asked for before. So these are as many as memory brings in the meantime, and the rest is asked for behind
// the activations.
int early_stages(int n_stages, int stage_bytes, int early_kib) {
  return std::clamp((early_kib << 10) / stage_bytes, 1, n_stages);
}

// As many warps as have two stages each, from most_warps down to four.
StreamPlan fit_stream(const MmaShape& shape, const StreamWay& way, const DeviceProfile& profile) {
  constexpr int kLeastWarps = 4;
  const int slots_per_group = shape.swiglu ? 2 : 1, n_groups = shape.n_slots / slots_per_group;
  const int n_clusters = std::min(way.n_clusters, n_groups), room = stream_shared_bytes(profile);
  const StreamWork work{
      .slots = ceil_div(n_groups, n_clusters) * slots_per_group,
      .most_chunks = KShare::most(shape.n_k_tiles, way.cluster_log2) * way.chunks_per_tile,
      .least_chunks = (shape.n_k_tiles >> way.cluster_log2) * way.chunks_per_tile,
  };
  for (int n_warps = way.most_warps; n_warps >= kLeastWarps; n_warps -= 2) {
    StreamPlan plan{.shape = {.n_warps = n_warps, .n_stages = 8, .cluster_log2 = way.cluster_log2},
                    .n_ctas = n_clusters << way.cluster_log2,
                    .shared_bytes = 0};
    choose_segments(plan.shape, work);
    find_places(plan.shape, work, slots_per_group);
    do plan.shared_bytes = StreamLayout::of(plan.shape, way.bytes, way.tokens_log2).n_bytes;
    while (plan.shared_bytes > room && --plan.shape.n_stages >= 2);
    if (plan.shape.n_stages < 2) continue;
    plan.shape.n_early = early_stages(plan.shape.n_stages, n_warps * way.bytes.chunk, way.early_kib);
    return plan;
  }
  return {};
}

}  // namespace

StreamPlan plan_stream(const MmaShape& shape, int tile_bytes, bool two_types, const ClusterRoom& room,
                       const DeviceProfile& profile) {
  // By estimate: fewer warps leave memory and the tensor cores idle for longer than it takes to share K.
  constexpr int kEnoughWarps = 12;
  const bool is_float = tile_bytes == HalfTile::kBytes;
  if (shape.n_tokens > (is_float ? profile.stream_tokens : profile.stream_decoded_tokens)) return {};
  if (profile.mma_warps_m != 0 || profile.mma_split_k != 0) return {};  // who sets these asks for that kernel
  const int tokens_log2 = shared_tokens_log2(1, shape.n_tokens), n_chunks = chunks_per_tile(tile_bytes);
  const int most_warps = std::min(profile.stream_warps / 2 * 2, max_stream_warps(tile_bytes, two_types));
  const auto fit = [&](int cluster_log2, int n_clusters) {
    const int n_tiles = KShare::most(shape.n_k_tiles, cluster_log2);
    return fit_stream(shape,
                      {.bytes = float16_stream(n_tiles, tokens_log2, tile_bytes / n_chunks),
                       .chunks_per_tile = n_chunks,
                       .tokens_log2 = tokens_log2,
                       .most_warps = most_warps,
                       .cluster_log2 = cluster_log2,
                       .n_clusters = n_clusters,
                       .early_kib = profile.early_kib},
                      profile);
  };
  const StreamPlan whole = fit(0, profile.n_sms);
  const int split = profile.stream_k_split;
  if (split == 0 || two_types || room.clusters[split] == 0 || split > shape.n_k_tiles) return whole;
  if (!profile.stream_k_split_always && whole.shape.n_warps >= std::min(kEnoughWarps, most_warps)) return whole;
  const StreamPlan shared = fit(std::bit_width(static_cast<unsigned>(split)) - 1, room.clusters[split]);
  return shared.n_ctas > 0 ? shared : whole;
}

StreamPlan plan_stream_int8(const MmaShape& shape, int tile_bytes, bool two_types, const DeviceProfile& profile) {
  if (shape.n_tokens > std::min(profile.stream_int8_tokens, kMaxStreamInt8Tokens)) return {};
  if (profile.mma_warps_m != 0 || profile.mma_split_k != 0) return {};  // who sets these asks for that kernel
  return fit_stream(
      shape,
      {.bytes = int8_stream(shape.n_k_tiles, two_types, tile_bytes),
       .chunks_per_tile = 1,
       .tokens_log2 = 0,
       .most_warps = std::min(profile.stream_int8_warps / 2 * 2, max_stream_int8_warps(tile_bytes, two_types)),
       .cluster_log2 = 0,
       .n_clusters = profile.n_sms,
       .early_kib = profile.early_int8_kib},
      profile);
}

namespace {

// As many stages as fit: weights first, which come from far.
bool fit_rings(WidePlan& plan, int tile_bytes, const DeviceProfile& profile) {
  const int warps_m = 1 << plan.warps_m_log2, warps_k = kWideWarps / warps_m;
  const int exchange = exchange_bytes(plan.tokens / 8, 1, warps_m, kWideWarps);
  const int room = profile.shared_bytes_per_block - kWideStaticBytes - kWideAlignment;
  if (exchange > room) return false;
  for (const auto& [weight_stages, least_x] : {std::pair(4, 4), std::pair(3, 3), std::pair(2, 2)}) {
    plan.shape.weight_stages = weight_stages;
    for (plan.shape.x_stages = 6; plan.shape.x_stages >= least_x; --plan.shape.x_stages) {
      const int bytes = WideLayout::of(plan.shape, plan.tokens, warps_k, tile_bytes).n_bytes;
      if (bytes > room) continue;
      plan.shared_bytes = std::max(bytes, exchange) + kWideAlignment;
      plan.early_stages =
          early_stages(weight_stages, kWideWarps * (tile_bytes / wide_chunks_per_tile(tile_bytes)), profile.early_kib);
      return true;
    }
  }
  return false;
}

// About how many cycles a product takes, wave by wave. The figures are fitted to an H200's (docs/performance.md).
double wide_cycles(const WidePlan& plan, const MmaShape& shape, int tile_bytes, const ClusterRoom& room,
                   const DeviceProfile& profile) {
  constexpr double kDecode = 2600, kToken = 34;     // of a round of 16 tiles: by the vector units, and of each token
  constexpr double kL2Bytes = 24, kMostBytes = 32;  // that an SM gets a cycle when all ask, and when few do
  constexpr double kStartAndEnd = 5500;
  // By estimate: two barriers of a cluster, and what an SM gets a cycle from the others' shared memory.
  constexpr double kClusterFixUp = 1500, kClusterBytes = 16;
  const int warps_m = 1 << plan.warps_m_log2, warps_k = kWideWarps / warps_m;
  const int clusters = plan.slot_groups * plan.token_groups, ctas = clusters * plan.cluster;
  const double bytes = std::min(kMostBytes, kL2Bytes * std::max(1.0, static_cast<double>(profile.n_sms) / ctas));
  const double weights = kWideWarps * tile_bytes, activations = warps_k * plan.tokens * kTokenTileBytes;
  const double round = std::max(kDecode + kToken * plan.tokens, (weights + activations) / bytes);
  double cta = ceil_div(ceil_div(shape.n_k_tiles, plan.cluster), warps_k) * round + kStartAndEnd;
  if (plan.cluster == 1) return ceil_div(ctas, profile.n_sms) * cta;
  cta += kClusterFixUp + 4.0 * plan.tokens * warps_m * kTileRows / kClusterBytes;
  return ceil_div(clusters, room.clusters[plan.cluster]) * cta;
}

}  // namespace

WidePlan plan_wide(const MmaShape& shape, const WideTypes& types, const ClusterRoom& room,
                   const DeviceProfile& profile) {
  const int tile_bytes = types.tile_bytes, second_slots = shape.n_slots - types.first_slots;
  WidePlan best;
  double least = 0;
  for (const int tokens : {16, 32, 64, 128}) {
    // More than one group of 16 would decode again for each; and what there is no kernel for.
    if (tokens == 16 && (shape.n_tokens > 16 || second_slots > 0)) continue;
    if (tokens > 64 && second_slots > 0) break;
    if (tokens > (second_slots > 0 ? 32 : 16) && tokens / 2 >= shape.n_tokens) break;
    const int largest = std::min(profile.wide_cluster, shape.n_k_tiles);
    for (const int warps_m_log2 : {2, 3, 4}) {
      if (profile.mma_warps_m != 0 && profile.mma_warps_m != 1 << warps_m_log2) continue;
      WidePlan plan{
          .tokens = tokens,
          .warps_m_log2 = warps_m_log2,
          .slot_groups = ceil_div(types.first_slots, 1 << warps_m_log2) + ceil_div(second_slots, 1 << warps_m_log2),
          .token_groups = ceil_div(shape.n_tokens, tokens),
          .shape = {}};
      if (!fit_rings(plan, tile_bytes, profile)) continue;
      for (int cluster = 1; cluster <= largest; ++cluster) {
        if (profile.mma_split_k != 0 && cluster != std::min(profile.mma_split_k, largest)) continue;
        if (cluster > 1 && room.clusters[cluster] == 0) continue;
        plan.cluster = cluster;
        const double cycles = wide_cycles(plan, shape, tile_bytes, room, profile);
        if (best.tokens != 0 && cycles >= least) continue;
        least = cycles;
        best = plan;
      }
    }
  }
  return best;
}

MmaMemory mma_memory(int max_slots, const DeviceProfile& profile) {
  // A split by choice makes about as many CTAs as fill the device. One that shared memory forces, of up to 8 tokens,
  // may be of any matrix: 16 K tiles of 8 tokens fit, and none known has more than 16 times that.
  const int64_t filling_ctas = int64_t{profile.n_sms} * std::max(profile.split_k_ctas_per_sm, 4);
  const int64_t filling = filling_ctas * cta_elems(MmaTier::k64Tokens, kMmaWarps);
  constexpr int kMostForcedParts = 16;
  const int64_t forced = int64_t{ceil_div(max_slots, kMmaWarps) * kMmaWarps} * kTileRows * 8 * kMostForcedParts;
  return {.partial_elems = std::max(filling, forced),
          .n_counters = static_cast<int>(std::max<int64_t>(filling_ctas, max_slots))};
}

}  // namespace spate::cuda
