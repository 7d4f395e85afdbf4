#include "backend/cuda/attention_cluster_plan.h"

#include <algorithm>
#include <climits>
#include <optional>

#include "base/check.h"

namespace spate::cuda {

namespace {

// Of an H200 (2026-11-23): what memory gives all SMs together and, by estimate, one of them; what a page costs a warp
// that waits for one after the other; and what it costs to merge parts through global memory, counters and all.
constexpr double kDeviceBytesPerUs = 4.4e6, kSmBytesPerUs = 40e3, kPageWaitUs = 1.2, kSplitUs = 2.5;

constexpr int ceil_div(int64_t a, int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

// One step's search.
class Search {
 public:
  Search(const ClusterShape& shape, std::span<const DecodeSequence> sequences, int n_kv_heads, int64_t page_bytes)
      : shape_(shape), sequences_(sequences), n_kv_heads_(n_kv_heads), page_bytes_(page_bytes) {
    for (const DecodeSequence& s : sequences) {
      total_pages_ += int64_t{s.pages} * n_kv_heads;
      longest_ = std::max(longest_, s.pages);
    }
  }

  struct Found {
    ClusterCut cut;
    double us;
  };

  // The best with items of no more than longest / n_parts pages a part.
  std::optional<Found> with_parts(int n_parts) const {
    const auto cut = [&](int warp_pages, int cluster_pages) {
      const int64_t of_cluster = int64_t{shape_.n_warps()} * warp_pages;
      return ClusterCut{.warp_pages = warp_pages,
                        .cluster_pages = cluster_pages,
                        .part_pages = static_cast<int>(std::min<int64_t>(of_cluster, ceil_div(longest_, n_parts)))};
    };
    int warp_pages = std::max(1, ceil_div(total_pages_, int64_t{shape_.n_clusters} * shape_.n_warps()));
    while (!deal(cut(warp_pages, INT_MAX))) {
      if (warp_pages >= total_pages_) return std::nullopt;
      warp_pages += 1 + warp_pages / 16;
    }
    // As evenly over the clusters as that allows.
    int least = std::max(1, ceil_div(total_pages_, shape_.n_clusters)),
        most = deal(cut(warp_pages, INT_MAX))->most_pages;
    for (int at = least; least < most; at = least + (most - least) / 2) {
      if (const auto dealt = deal(cut(warp_pages, at))) {
        most = std::min(at, dealt->most_pages);
      } else {
        least = at + 1;
      }
    }
    const Dealt dealt = *deal(cut(warp_pages, most));
    const double bytes = static_cast<double>(page_bytes_);
    const double us = std::max({static_cast<double>(total_pages_) * bytes / kDeviceBytesPerUs,
                                dealt.most_pages * bytes / (shape_.ctas * kSmBytesPerUs), warp_pages * kPageWaitUs});
    return Found{cut(warp_pages, most), us + (dealt.split ? kSplitUs : 0)};
  }

  // No cut can do better.
  double floor_us() const {
    return std::max(kPageWaitUs, static_cast<double>(total_pages_ * page_bytes_) / kDeviceBytesPerUs);
  }

 private:
  struct Dealt {
    int most_pages;
    bool split;
  };
  // Empty: the clusters do not suffice, or too much is split.
  std::optional<Dealt> deal(const ClusterCut& cut) const {
    ClusterDealer dealer(shape_, cut);
    for (const DecodeSequence& s : sequences_) {
      const int n_parts = dealer.parts_of(s.pages);
      for (int head = 0; head < n_kv_heads_; ++head)
        for (int part = 0; part < n_parts; ++part)
          dealer.deal(part_begin(s.pages, part + 1, n_parts) - part_begin(s.pages, part, n_parts), n_parts);
      if (dealer.clusters_used() > shape_.n_clusters || dealer.n_split_parts() > max_split_parts(shape_))
        return std::nullopt;
    }
    return Dealt{.most_pages = dealer.most_pages(), .split = dealer.n_split_parts() > 0};
  }

  const ClusterShape shape_;
  const std::span<const DecodeSequence> sequences_;
  const int n_kv_heads_;
  const int64_t page_bytes_;
  int64_t total_pages_ = 0;
  int longest_ = 0;
};

}  // namespace

int estimated_clusters(int n_sms, int ctas) {
  // A cluster lies within one of the device's parts of 16 or 18 SMs, where two are left over once clusters of four or
  // more have their places: of 132 SMs, 128 take part.
  const int sms = ctas <= 2 ? n_sms : n_sms - n_sms / 33;
  return std::max(1, sms / ctas);
}

ClusterCut choose_cut(const ClusterShape& shape, std::span<const DecodeSequence> sequences, int n_kv_heads,
                      int64_t page_bytes) {
  const Search search(shape, sequences, n_kv_heads, page_bytes);
  std::optional<Search::Found> best = search.with_parts(1);
  SPATE_CHECK(best.has_value(), "{} sequences do not fit {} clusters", sequences.size(), shape.n_clusters);
  for (const int n_parts : {2, 3, 4, 6, 8}) {
    if (best->us <= search.floor_us() + kSplitUs) break;
    const auto found = search.with_parts(n_parts);
    if (found && found->us < best->us) best = found;
  }
  return best->cut;
}

}  // namespace spate::cuda
