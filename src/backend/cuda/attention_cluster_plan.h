// Which warp of which cluster reads which pages in decode attention by clusters of CTAs (attention_cluster.cu).
//
// The decode items of a step (a sequence and KV head each, or a part of one) are dealt out to clusters whole. Inside a
// cluster an item's pages are cut into pieces of equal length, a warp each, whose results meet in shared memory; items
// that are short beside a warp's share go to warps whole, several to one. Only what is too long for a cluster, or would
// leave others idle for longer than a merge through global memory takes, is cut into parts of different clusters.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace spate::cuda {

// What a warp reads: all it needs to ask for its first pages comes in one load.
struct alignas(16) WarpSpan {
  int32_t first_item, end_item;      // its items; equal: nothing to do
  int32_t first_listed, end_listed;  // in the page lists: the pages of the first item that it takes. Of further items
                                     // it takes all.
  int32_t kv_head;                   // of the first item
  uint16_t piece, n_pieces;  // of its only item, whose pieces warps piece, piece + 1, ... of the cluster have, to be
                             // merged; n_pieces 0: the warp writes its items' results to the output by itself
  int32_t page_ids[2];       // of the first two of these pages
};
static_assert(sizeof(WarpSpan) == 32);

struct ClusterShape {
  int ctas;        // of a cluster; warp w of a cluster is warp w / ctas of its CTA w % ctas
  int cta_warps;   // of a CTA
  int n_clusters;  // that run at once
  int n_warps() const { return ctas * cta_warps; }
};

// How items are cut and packed.
struct ClusterCut {
  int warp_pages;     // that a warp takes at most
  int cluster_pages;  // that a cluster takes at most
  int part_pages;     // of a part of an item at most: no more than all warps of a cluster take
};

// A sequence that the decode kernel works on; one item a KV head.
struct DecodeSequence {
  int seq, pages, page_list;
};

// Where part `part` of n_parts of `pages` pages begins.
constexpr int part_begin(int pages, int part, int n_parts) {
  return static_cast<int>(int64_t{pages} * part / n_parts);
}

// Deals parts of items out to the warps of clusters, in order.
class ClusterDealer {
 public:
  ClusterDealer(const ClusterShape& shape, const ClusterCut& cut) : shape_(shape), cut_(cut) {}

  int parts_of(int pages) const { return std::max(1, (pages + cut_.part_pages - 1) / cut_.part_pages); }

  struct Place {
    int cluster, first_warp;
    int n_pieces;  // warps first_warp, first_warp + 1, ... take one each
    bool joins;    // the warp has had other items, and takes this one too
  };
  // The next part, of `pages` pages, of an item that has n_parts.
  Place deal(int pages, int n_parts) {
    const bool whole = n_parts == 1 && pages <= cut_.warp_pages;
    const bool room = cluster_pages_ + pages <= cut_.cluster_pages || cluster_pages_ == 0;
    const bool joins = whole && shared_pages_ > 0 && shared_pages_ + pages <= cut_.warp_pages && room;
    const int n_pieces = (pages + cut_.warp_pages - 1) / cut_.warp_pages;
    if (!joins && (!room || next_warp_ + n_pieces > shape_.n_warps())) {
      ++cluster_;
      next_warp_ = cluster_pages_ = 0;
    }
    if (!joins) next_warp_ += n_pieces;
    shared_pages_ = whole ? (joins ? shared_pages_ : 0) + pages : 0;
    cluster_pages_ += pages;
    most_pages_ = std::max(most_pages_, cluster_pages_);
    if (n_parts > 1) ++n_split_parts_;
    return {.cluster = cluster_, .first_warp = next_warp_ - n_pieces, .n_pieces = n_pieces, .joins = joins};
  }

  int clusters_used() const { return cluster_ + 1; }
  int most_pages() const { return most_pages_; }  // of a cluster
  int n_split_parts() const { return n_split_parts_; }

 private:
  const ClusterShape shape_;
  const ClusterCut cut_;
  int cluster_ = 0, next_warp_ = 0, cluster_pages_ = 0;
  int shared_pages_ = 0;  // of the warp that takes whole items, while that is the last
  int most_pages_ = 0, n_split_parts_ = 0;
};

// At most so many parts of items that are split between clusters does a step have.
constexpr int max_split_parts(const ClusterShape& shape) {
  return 4 * shape.n_clusters;
}

// About how many clusters of `ctas` CTAs, each as large as an SM has room for, a device runs at once (cluster_room.h
// knows).
int estimated_clusters(int n_sms, int ctas);

// The cut that an estimate of the time finds best. page_bytes: of a page's keys and values of one KV head. There is one
// for every step: clusters suffice, and no more than max_split_parts() are split.
ClusterCut choose_cut(const ClusterShape& shape, std::span<const DecodeSequence> sequences, int n_kv_heads,
                      int64_t page_bytes);

}  // namespace spate::cuda
