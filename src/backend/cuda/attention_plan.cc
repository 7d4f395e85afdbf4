#include "backend/cuda/attention_plan.h"

#include <algorithm>
#include <tuple>

#include "backend/cuda/attention_tiles.h"
#include "base/check.h"

namespace spate::cuda {

namespace {

// What an item costs beside its pages (queries loaded, results merged), in pages.
constexpr int kItemCost = 2;
// KV that is worth a part of its own: one SM reads it in about 3 us, and parts on different CTAs take two or three to
// find each other.
constexpr int64_t kMinPartBytes = 192 * 1024;
constexpr int kMinPrefillPartPages = 32;
// CTAs of a cluster that decodes while there are so few items that SMs of their own would leave some idle, or would
// differ in how many they have. Larger clusters cost time at their barriers, and more of it the more items there are.
constexpr int kFewItemsCtas = 4;

constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}
constexpr int64_t round_up(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

int pages_of(int n_tokens) {
  return ceil_div(n_tokens, kPageTokens);
}

// Deals decode items out to CTAs, in order, so that all get the same cost.
class Shares {
 public:
  Shares(int n_ctas, int64_t total_cost, int32_t* cta_start)
      : n_ctas_(n_ctas), remaining_(total_cost), cta_start_(cta_start) {
    cta_start_[0] = 0;
    open();
  }

  // How many of the `rest` pages of an item the CTA in turn takes; 0: none, the next CTA is to go on. Neither part of a
  // cut has fewer than min_pages.
  int fitting_pages(int rest, int min_pages) const {
    if (is_last() || rest + kItemCost <= left_) return rest;
    const int fitting = static_cast<int>(left_) - kItemCost;
    if (fitting < min_pages) return n_items_ > cta_start_[cta_] ? 0 : rest;
    return rest - fitting < min_pages ? rest : fitting;
  }

  void take(int cost) {
    ++n_items_;
    left_ -= cost;
    remaining_ -= cost;
    if (left_ <= 0) next();
  }
  void next() {
    if (is_last()) return;
    cta_start_[++cta_] = n_items_;
    open();
  }
  // Returns how many items were dealt out.
  int finish() {
    for (int cta = cta_ + 1; cta <= n_ctas_; ++cta) cta_start_[cta] = n_items_;
    return n_items_;
  }

 private:
  bool is_last() const { return cta_ == n_ctas_ - 1; }
  void open() {
    const int n_open = n_ctas_ - cta_;
    left_ = std::max<int64_t>((remaining_ + n_open - 1) / n_open, 1);
  }

  const int n_ctas_;
  int64_t remaining_;
  int32_t* cta_start_;
  int cta_ = 0, n_items_ = 0;
  int64_t left_ = 0;
};

}  // namespace

// The block being filled.
struct AttentionPlanner::Filling {
  int32_t* cta_start;
  int32_t* n_prefill;
  WarpSpan* spans;
  AttentionItem* items;
  int n_items = 0;
  int decode_rows = 0;  // the most rows of a decode item
  int n_decode_partials = 0, n_prefill_partials = 0, n_counters = 0;

  void add(const AttentionItem& item) { items[n_items++] = item; }

  // Adds an item, one of n_parts of a sequence and KV head, and says which warps read it.
  void add_to_cluster(const AttentionItem& item, int n_parts, const ClusterShape& shape, std::span<const int32_t> pages,
                      ClusterDealer& dealer) {
    const int n_pages = item.end_page - item.first_page;
    const ClusterDealer::Place place = dealer.deal(n_pages, n_parts);
    SPATE_CHECK(place.cluster < shape.n_clusters, "an item for cluster {} of {}", place.cluster, shape.n_clusters);
    WarpSpan* const of_item = spans + place.cluster * shape.n_warps() + place.first_warp;
    add(item);
    if (place.joins) {
      of_item->end_item = n_items;
      return;
    }
    const int n_merged = place.n_pieces > 1 || n_parts > 1 ? place.n_pieces : 0;
    for (int piece = 0; piece < place.n_pieces; ++piece) {
      const int first = item.page_list + item.first_page + part_begin(n_pages, piece, place.n_pieces);
      const int end = item.page_list + item.first_page + part_begin(n_pages, piece + 1, place.n_pieces);
      of_item[piece] = {.first_item = n_items - 1,
                        .end_item = n_items,
                        .first_listed = first,
                        .end_listed = end,
                        .kv_head = item.kv_head,
                        .piece = static_cast<uint16_t>(piece),
                        .n_pieces = static_cast<uint16_t>(n_merged),
                        .page_ids = {pages[first], pages[std::min(first + 1, end - 1)]}};
    }
  }

  // The last n_parts items are parts of one.
  void join_parts(int n_parts, int* n_partials) {
    if (n_parts == 1) return;
    for (int p = 0; p < n_parts; ++p) {
      AttentionItem& item = items[n_items - n_parts + p];
      item.part = static_cast<uint16_t>(p);
      item.n_parts = static_cast<uint16_t>(n_parts);
      item.first_partial = *n_partials;
      item.counter = n_counters;
    }
    *n_partials += n_parts;
    ++n_counters;
  }
};

bool AttentionGrid::covers(const AttentionGrid& plan) const {
  const bool decode =
      plan.decode_rows == 0 ||
      (plan.decode_ctas == decode_ctas && plan.decode_warps == decode_warps && plan.decode_stages == decode_stages &&
       plan.decode_cluster == decode_cluster && plan.decode_rows <= decode_rows);
  const bool prefill =
      plan.prefill_ctas == 0 || (plan.prefill_ctas <= prefill_ctas && plan.prefill_rows == prefill_rows);
  return decode && prefill;
}

AttentionPlanner::AttentionPlanner(const AttentionShape& shape, const DeviceProfile& profile, int max_seqs,
                                   int max_step_tokens, int max_context, const ClusterRoom& room)
    : shape_(shape),
      decode_(decode_geometry(shape.kv_type, shape.head_dim, profile.shared_bytes_per_block)),
      decode_ctas_(profile.n_sms),
      n_sms_(profile.n_sms),
      // An item counts its parts in 16 bits.
      split_pages_(profile.attention_split_pages == 0
                       ? 0
                       : std::max(profile.attention_split_pages, ceil_div(pages_of(max_context), 65535))),
      max_seqs_(max_seqs),
      max_step_tokens_(max_step_tokens),
      max_pages_(pages_of(max_context)) {
  SPATE_CHECK(has_attention_kernel(shape.head_dim), "head size {}", shape.head_dim);
  SPATE_CHECK(n_sms_ > 0 && max_seqs > 0 && max_step_tokens > 0 && max_context > 0, "{} SMs, {} sequences, {} tokens",
              n_sms_, max_seqs, max_step_tokens);
  // Cuts that do not depend on neighbours are the other kernel's.
  if (profile.has_clusters && split_pages_ == 0) {
    const int forced = profile.attention_cluster;
    few_ = make_clusters(forced > 0 ? forced : kFewItemsCtas, profile, room);
    many_ = make_clusters(forced > 0 ? forced : 1, profile, room);
    decode_ctas_ = 0;
    decodes_.reserve(max_seqs);
  }
  const int64_t pairs = int64_t{max_seqs} * shape.n_kv_heads;
  const int64_t decode_items = split_pages_ > 0 ? pairs * ceil_div(max_pages_, split_pages_)
                               : has_clusters() ? pairs + max_cluster_parts()
                                                : pairs + decode_ctas_;
  const int64_t tiles = int64_t{max_step_tokens} * shape.group() / kPrefillTileRows + max_seqs;
  const int64_t prefill_items = tiles * shape.n_kv_heads + max_prefill_parts();
  work_bytes_ = items_offset() + (decode_items + prefill_items) * static_cast<int64_t>(sizeof(AttentionItem));
}

AttentionPlanner::Clusters AttentionPlanner::make_clusters(int ctas, const DeviceProfile& profile,
                                                           const ClusterRoom& room) const {
  const DecodeGeometry geometry =
      cluster_geometry(shape_.kv_type, shape_.head_dim, ctas, profile.shared_bytes_per_block);
  const bool known = ctas > 1 && room.clusters[ctas] > 0;
  const int n_clusters = known ? room.clusters[ctas] : estimated_clusters(n_sms_, ctas);
  return {.shape = {.ctas = ctas, .cta_warps = geometry.warps, .n_clusters = n_clusters}, .slots = geometry.stages};
}

// By what a graph knows, the number of items. Measured on an H200 with 560 tokens of context to a sequence, 2026-11-23
// (docs/performance.md): 64 items want clusters of four, 128 and more CTAs of their own.
const AttentionPlanner::Clusters& AttentionPlanner::clusters_for(int n_seqs) const {
  return 4 * int64_t{n_seqs} * shape_.n_kv_heads < 3 * int64_t{n_sms_} ? few_ : many_;
}

int64_t AttentionPlanner::spans_offset() const {
  return round_up((decode_ctas_ + 2) * static_cast<int64_t>(sizeof(int32_t)), alignof(AttentionItem));
}

int64_t AttentionPlanner::items_offset() const {
  const auto n_spans = [](const ClusterShape& shape) { return int64_t{shape.n_clusters} * shape.n_warps(); };
  return spans_offset() + std::max(n_spans(few_.shape), n_spans(many_.shape)) * static_cast<int64_t>(sizeof(WarpSpan));
}

// A share of KV is 2 n_sms-th of all, and only items over 3/2 of it are split: their parts are fewer than 5/3 as many.
int AttentionPlanner::max_prefill_parts() const {
  return 4 * n_sms_;
}

AttentionScratchSize AttentionPlanner::scratch_size() const {
  // A CTA's share begins and ends at most one split item each.
  const int64_t pairs = int64_t{max_seqs_} * shape_.n_kv_heads;
  const int64_t parts = split_pages_ > 0 ? pairs * ceil_div(max_pages_, split_pages_)
                        : has_clusters() ? max_cluster_parts()
                                         : int64_t{2} * decode_ctas_;
  const int64_t counters = (split_pages_ > 0 ? pairs : parts) + max_prefill_parts();
  return {.decode_elems = parts * partial_elems(kDecodeTileRows, shape_.head_dim),
          .prefill_elems = max_prefill_parts() * partial_elems(kPrefillTileRows, shape_.head_dim),
          .n_counters = static_cast<int>(counters)};
}

AttentionWork AttentionPlanner::work_at(const std::byte* device_block) const {
  const auto* ints = reinterpret_cast<const int32_t*>(device_block);
  return {.cta_start = ints,
          .n_prefill = ints + decode_ctas_ + 1,
          .items = reinterpret_cast<const AttentionItem*>(device_block + items_offset()),
          .spans = has_clusters() ? reinterpret_cast<const WarpSpan*>(device_block + spans_offset()) : nullptr,
          .decode_ctas = decode_ctas_};
}

AttentionPlanner::Planned AttentionPlanner::plan(std::span<const int32_t> q_start, std::span<const int32_t> kv_len,
                                                 std::span<const int32_t> pages, std::span<std::byte> block,
                                                 int n_seqs) {
  const int n_real = static_cast<int>(kv_len.size());
  if (n_seqs == 0) n_seqs = n_real;
  SPATE_CHECK(q_start.size() == kv_len.size() + 1 && n_real <= n_seqs && n_seqs <= max_seqs_ &&
                  q_start[n_real] <= max_step_tokens_,
              "{} sequences, planned as {}, {} query ranges", n_real, n_seqs, q_start.size());
  SPATE_CHECK(static_cast<int64_t>(block.size()) >= work_bytes_, "{} bytes for a plan of up to {}", block.size(),
              work_bytes_);
  SPATE_CHECK(reinterpret_cast<uintptr_t>(block.data()) % alignof(AttentionItem) == 0,
              "the plan's block is not aligned");
  auto* ints = reinterpret_cast<int32_t*>(block.data());
  Filling filling{.cta_start = ints,
                  .n_prefill = ints + decode_ctas_ + 1,
                  .spans = reinterpret_cast<WarpSpan*>(block.data() + spans_offset()),
                  .items = reinterpret_cast<AttentionItem*>(block.data() + items_offset())};
  if (has_clusters()) {
    plan_clusters(q_start, kv_len, pages, clusters_for(n_seqs).shape, filling);
  } else {
    plan_decode(q_start, kv_len, filling);
  }
  const int n_decode = filling.n_items;
  plan_prefill(q_start, kv_len, filling);
  *filling.n_prefill = filling.n_items - n_decode;
  AttentionGrid grid;
  if (filling.decode_rows > 0) {
    grid = decode_launch(n_seqs);
    grid.decode_rows = filling.decode_rows <= 8 ? 8 : 16;
  }
  if (*filling.n_prefill > 0) {
    grid.prefill_ctas = *filling.n_prefill;
    grid.prefill_rows = kPrefillTileRows;
  }
  return {.grid = grid, .used_bytes = items_offset() + filling.n_items * static_cast<int64_t>(sizeof(AttentionItem))};
}

AttentionGrid AttentionPlanner::decode_launch(int n_seqs) const {
  if (!has_clusters())
    return {.decode_ctas = decode_ctas_, .decode_warps = decode_.warps, .decode_stages = decode_.stages};
  const auto& [shape, slots] = clusters_for(n_seqs);
  return {.decode_ctas = shape.n_clusters * shape.ctas,
          .decode_warps = shape.cta_warps,
          .decode_stages = slots,
          .decode_cluster = shape.ctas};
}

AttentionGrid AttentionPlanner::decode_grid(int n_seqs) const {
  if (is_decode(1)) {
    AttentionGrid grid = decode_launch(n_seqs);
    grid.decode_rows = shape_.group() <= 8 ? 8 : 16;
    return grid;
  }
  const int tiles = n_seqs * ceil_div(shape_.group(), kPrefillTileRows);
  return {.prefill_ctas = tiles * shape_.n_kv_heads + max_prefill_parts(), .prefill_rows = kPrefillTileRows};
}

bool AttentionPlanner::is_decode(int n_q) const {
  return n_q * shape_.group() <= kDecodeTileRows;
}

// Calls visit(sequence, pages, where its page list starts) for every sequence of the decode kernel.
template <typename Visit>
void AttentionPlanner::for_decodes(std::span<const int32_t> q_start, std::span<const int32_t> kv_len,
                                   const Visit& visit) const {
  int page_list = 0;
  for (int s = 0; s < static_cast<int>(kv_len.size()); ++s) {
    const int pages = pages_of(kv_len[s]);
    if (is_decode(q_start[s + 1] - q_start[s])) visit(s, pages, page_list);
    page_list += pages;
  }
}

void AttentionPlanner::plan_decode(std::span<const int32_t> q_start, std::span<const int32_t> kv_len,
                                   Filling& filling) const {
  const int64_t n_kv_heads = shape_.n_kv_heads;
  int64_t total_pages = 0;
  for_decodes(q_start, kv_len, [&](int, int pages, int) { total_pages += pages * n_kv_heads; });
  const int64_t page_bytes = kv_page_bytes(shape_.kv_type, 1, shape_.head_dim);  // of one KV head
  const int min_pages = std::max(decode_.warps, static_cast<int>(kMinPartBytes / page_bytes));
  const int share_pages = static_cast<int>((total_pages + decode_ctas_ - 1) / decode_ctas_);
  // Pages of a part of a sequence, when it is cut into equal ones of about a share.
  const auto part_pages = [&](int pages) {
    const int wanted = std::max(min_pages, share_pages);
    return split_pages_ > 0 ? split_pages_ : ceil_div(pages, std::max(1, (pages + wanted / 2) / wanted));
  };
  int64_t n_parts_all = 0, total_cost = 0;
  int longest = 0;
  for_decodes(q_start, kv_len, [&](int, int pages, int) {
    n_parts_all += n_kv_heads * ceil_div(pages, part_pages(pages));
    longest = std::max(longest, part_pages(pages));
  });
  // Equal parts are best where each gets a CTA of its own and none is much longer than a share, and where there is so
  // little to do that latency counts. Otherwise items are cut where the shares end.
  const bool fits = n_parts_all <= decode_ctas_ && 10 * int64_t{longest} <= 11 * int64_t{share_pages};
  const bool at_shares = split_pages_ == 0 && share_pages > min_pages && !fits;
  for_decodes(q_start, kv_len, [&](int, int pages, int) {
    total_cost += n_kv_heads * (pages + kItemCost * (at_shares ? 1 : ceil_div(pages, part_pages(pages))));
  });
  if (at_shares) total_cost += int64_t{decode_ctas_} * kItemCost;  // every share's end cuts an item in two
  Shares shares(decode_ctas_, total_cost, filling.cta_start);

  for_decodes(q_start, kv_len, [&](int s, int pages, int page_list) {
    const int n_q = q_start[s + 1] - q_start[s];
    filling.decode_rows = std::max(filling.decode_rows, n_q * shape_.group());
    for (int head = 0; head < shape_.n_kv_heads; ++head) {
      int n_parts = 0;
      for (int first = 0; first < pages;) {
        const int rest = pages - first;
        const int n = at_shares ? shares.fitting_pages(rest, decode_.warps) : std::min(rest, part_pages(pages));
        if (n == 0) {
          shares.next();
          continue;
        }
        filling.add({.seq = s,
                     .kv_head = head,
                     .q_start = q_start[s],
                     .n_q = n_q,
                     .kv_len = kv_len[s],
                     .page_list = page_list,
                     .first_page = first,
                     .end_page = first + n,
                     .first_row = 0,
                     .part = 0,
                     .n_parts = 1,
                     .first_partial = 0,
                     .counter = 0});
        first += n;
        ++n_parts;
        shares.take(n + kItemCost);
      }
      filling.join_parts(n_parts, &filling.n_decode_partials);
    }
  });
  SPATE_CHECK(shares.finish() == filling.n_items, "{} decode items", filling.n_items);
}

void AttentionPlanner::plan_clusters(std::span<const int32_t> q_start, std::span<const int32_t> kv_len,
                                     std::span<const int32_t> pages, const ClusterShape& clusters, Filling& filling) {
  std::fill_n(filling.spans, clusters.n_clusters * clusters.n_warps(), WarpSpan{});
  decodes_.clear();
  for_decodes(q_start, kv_len, [&](int seq, int n_pages, int page_list) {
    decodes_.push_back({.seq = seq, .pages = n_pages, .page_list = page_list});
    const int n_q = q_start[seq + 1] - q_start[seq];
    filling.decode_rows = std::max(filling.decode_rows, n_q * shape_.group());
  });
  if (!decodes_.empty()) {
    const int64_t page_bytes = kv_page_bytes(shape_.kv_type, 1, shape_.head_dim);
    ClusterDealer dealer(clusters, choose_cut(clusters, decodes_, shape_.n_kv_heads, page_bytes));
    for (const DecodeSequence& s : decodes_) {
      const int n_parts = dealer.parts_of(s.pages);
      for (int head = 0; head < shape_.n_kv_heads; ++head) {
        for (int part = 0; part < n_parts; ++part) {
          const AttentionItem item{.seq = s.seq,
                                   .kv_head = head,
                                   .q_start = q_start[s.seq],
                                   .n_q = q_start[s.seq + 1] - q_start[s.seq],
                                   .kv_len = kv_len[s.seq],
                                   .page_list = s.page_list,
                                   .first_page = part_begin(s.pages, part, n_parts),
                                   .end_page = part_begin(s.pages, part + 1, n_parts),
                                   .first_row = 0,
                                   .part = 0,
                                   .n_parts = 1,
                                   .first_partial = 0,
                                   .counter = 0};
          filling.add_to_cluster(item, n_parts, clusters, pages, dealer);
        }
        filling.join_parts(n_parts, &filling.n_decode_partials);
      }
    }
  }
  filling.cta_start[0] = filling.n_items;
}

void AttentionPlanner::plan_prefill(std::span<const int32_t> q_start, std::span<const int32_t> kv_len,
                                    Filling& filling) const {
  const int n_seqs = static_cast<int>(kv_len.size()), group = shape_.group();
  const int first_item = filling.n_items;
  // Calls visit(sequence, first row of a tile, pages that its last row sees, where the page list starts) for every tile
  // of a KV head.
  const auto for_tiles = [&](const auto& visit) {
    int page_list = 0;
    for (int s = 0; s < n_seqs; page_list += pages_of(kv_len[s++])) {
      const int n_q = q_start[s + 1] - q_start[s];
      if (is_decode(n_q)) continue;
      for (int row = 0; row < n_q * group; row += kPrefillTileRows) {
        const int last_token = (std::min(row + kPrefillTileRows, n_q * group) - 1) / group;
        visit(s, row, pages_of(kv_len[s] - n_q + last_token + 1), page_list);
      }
    }
  };
  int64_t n_tiles = 0, total_pages = 0;
  for_tiles([&](int, int, int pages, int) {
    n_tiles += shape_.n_kv_heads;
    total_pages += int64_t{pages} * shape_.n_kv_heads;
  });
  const bool split = split_pages_ == 0 && n_tiles < 2 * n_sms_;
  const auto share =
      static_cast<int>(std::max<int64_t>(kMinPrefillPartPages, (total_pages + 2 * n_sms_ - 1) / (2 * n_sms_)));
  for_tiles([&](int s, int row, int pages, int page_list) {
    const int n_parts = split && 2 * pages > 3 * share ? ceil_div(pages, share) : 1;
    for (int head = 0; head < shape_.n_kv_heads; ++head) {
      for (int part = 0; part < n_parts; ++part)
        filling.add({.seq = s,
                     .kv_head = head,
                     .q_start = q_start[s],
                     .n_q = q_start[s + 1] - q_start[s],
                     .kv_len = kv_len[s],
                     .page_list = page_list,
                     .first_page = static_cast<int32_t>(int64_t{pages} * part / n_parts),
                     .end_page = static_cast<int32_t>(int64_t{pages} * (part + 1) / n_parts),
                     .first_row = row,
                     .part = 0,
                     .n_parts = 1,
                     .first_partial = 0,
                     .counter = 0});
      filling.join_parts(n_parts, &filling.n_prefill_partials);
    }
  });
  // The longest first, so that no long item starts last; tiles of one head beside each other share its KV in L2.
  std::sort(filling.items + first_item, filling.items + filling.n_items,
            [](const AttentionItem& a, const AttentionItem& b) {
              return std::tuple(a.first_page - a.end_page, a.seq, a.kv_head, a.first_row, a.part) <
                     std::tuple(b.first_page - b.end_page, b.seq, b.kv_head, b.first_row, b.part);
            });
}

}  // namespace spate::cuda
