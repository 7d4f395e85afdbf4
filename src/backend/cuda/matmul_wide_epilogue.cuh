// The end of a product by matmul_wide.cuh: a CTA's sums are added up over its warps and, through each other's shared
// memory, over the CTAs of its cluster, which shared K; each of these writes a share of the tokens.
#pragma once

#include "backend/cuda/cluster.cuh"
#include "backend/cuda/matmul_mma.cuh"
#include "backend/cuda/matmul_wide.h"

namespace spate::cuda {

#ifdef __CUDACC__

#if SPATE_HAS_BULK_COPY

// Of the CTA's n_tokens, those that it writes.
struct TokenShare {
  int begin, end;
  __device__ static TokenShare of(int n_tokens) {
    return {static_cast<int>(n_tokens * blockIdx.z / gridDim.z),
            static_cast<int>(n_tokens * (blockIdx.z + 1) / gridDim.z)};
  }
};

// What a thread's share of the sums is added to where a norm follows: some tokens of the residual, and the norm's
// weight, are asked for before the sums are there.
class ResidualAhead {
 public:
  // Any time after the wait for the predecessor: nobody else writes these elements.
  __device__ void start(const MmaParams& p, const RowShare& share) {
    const int r = row_of(share);
    weight_ = r < p.parts[0].n_rows ? p.next.weight[r] : 0;
    ask(p, share, share.first);
  }

  // As add_to_residual().
  template <typename Value>
  __device__ void add(const MmaParams& p, const RowShare& share, Value&& value) {
    const int r = row_of(share);
    const bool exists = r < p.parts[0].n_rows;
#pragma unroll 1
    for (int first = share.first; first < share.n; first += kAtOnce * share.step) {
      float sums[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int t = first + k * share.step;
        if (t >= share.n) break;
        sums[k] = y_[k] + (exists ? value(t) : 0);
      }
      ask(p, share, first + kAtOnce * share.step);  // comes while these are written
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int t = first + k * share.step;
        if (t >= share.n) break;
        write_residual(p, share.first_token + t, r, weight_, sums[k]);
      }
    }
  }

 private:
  static constexpr int kAtOnce = 4;  // where 128 CTAs add to 4,096 rows a thread has one token of 16, four of 64

  __device__ static int row_of(const RowShare& share) {
    return share.slot * kTileRows + share.row;
  }

  __device__ void ask(const MmaParams& p, const RowShare& share, int first) {
    const int r = row_of(share), n = r < p.parts[0].n_rows ? share.n : 0;
    const float* from = p.y + (share.first_token + first) * p.y_stride + r;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k, from += share.step * p.y_stride)
      y_[k] = first + k * share.step < n ? __ldcg(from) : 0;
  }

  float weight_, y_[kAtOnce];
};

// By the warps that multiply. Sums lie in shared memory as [warps that share K][kTokens][rows + kRowPad].
template <int kTokens>
class WideEpilogue {
 public:
  __device__ WideEpilogue(const MmaParams& p, const CtaPlace& place, float* sums)
      : p_(p),
        place_(place),
        sums_(sums),
        rows_log2_(p.warps_m_log2 + 4),
        stride_((1 << rows_log2_) + kRowPad),
        n_tokens_(min(p.n_tokens - place.first_token, kTokens)),
        share_(TokenShare::of(n_tokens_)) {}

  __device__ void run(const Sums<kTokens / 8, 1>& sums) {
    leave(sums);
    // Not before: of 64 tokens a CTA ptxas would have leave() wait for the answers.
    ResidualAhead residual;
    if (p_.next.x != nullptr) residual.start(p_, row_share());
    barrier();
    if (place_.warps_k > 1) add_up_warps();
    if (gridDim.z > 1) {
      cluster_arrive();
      cluster_wait();
      add_up_cluster();
      cluster_arrive();  // no more of the others' sums is wanted
      barrier();
    } else if (place_.warps_k > 1) {
      barrier();
    }
    if (p_.epilogue == Epilogue::kSwiGlu) {
      write_swiglu();
    } else {
      write(residual);
    }
    if (gridDim.z > 1) cluster_wait();  // its own sums stay until then
  }

 private:
  static constexpr int kThreads = 32 * kWideWarps;

  __device__ static void barrier() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

  // Which 16 rows of sums are those of a slot of the CTA. Gate and up change places in every second pair, so that lanes
  // with rows of two panels of gate meet no bank twice.
  __device__ int place_of(int slot) const { return p_.epilogue == Epilogue::kSwiGlu ? slot ^ (slot >> 1 & 1) : slot; }

  __device__ void leave(const Sums<kTokens / 8, 1>& sums) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float* at = sums_ + (place_.warp_k * kTokens + 2 * t) * stride_ + place_of(place_.warp_m) * kTileRows + g;
    barrier();  // the activations lie in the same memory
#pragma unroll
    for (int o = 0; o < kTokens / 8; ++o, at += 8 * stride_) {
      const float* sum = sums.of[0][o];
      at[0] = sum[0];
      at[stride_] = sum[1];
      at[8] = sum[2];
      at[stride_ + 8] = sum[3];
    }
  }

  // Four rows of sums of the tokens from `token` on, counted through.
  __device__ float4* quad(int token, int i) const {
    const int quads_log2 = rows_log2_ - 2;
    return reinterpret_cast<float4*>(sums_ + (token + (i >> quads_log2)) * stride_) + (i & ((1 << quads_log2) - 1));
  }
  __device__ static void add(float4& sum, float4 other) {
    sum.x += other.x;
    sum.y += other.y;
    sum.z += other.z;
    sum.w += other.w;
  }

  // To where the first warps' sums were.
  __device__ void add_up_warps() {
#pragma unroll 2
    for (int i = threadIdx.x; i < n_tokens_ << (rows_log2_ - 2); i += kThreads) {
      float4* to = quad(0, i);
      float4 sum = *to;
      for (int k = 1; k < place_.warps_k; ++k) add(sum, to[k * kTokens * stride_ / 4]);
      *to = sum;
    }
  }

  // The share's sums of all CTAs, in their order, to where its own were, which nobody else reads.
  __device__ void add_up_cluster() {
    const int n_ctas = static_cast<int>(gridDim.z), n = (share_.end - share_.begin) << (rows_log2_ - 2);
#pragma unroll 2
    for (int i = threadIdx.x; i < n; i += kThreads) {
      float4* to = quad(share_.begin, i);
      const uint32_t at = shared_address(to);
      float4 sum = {0, 0, 0, 0};
#pragma unroll 4
      for (int rank = 0; rank < n_ctas; ++rank) add(sum, load_cluster_4(cluster_address(at, rank)));
      *to = sum;
    }
  }

  __device__ int own_row() const {
    return threadIdx.x & ((1 << rows_log2_) - 1);
  }
  __device__ RowShare row_share() const {
    return {.slot = place_.first_slot + own_row() / kTileRows,
            .row = own_row() % kTileRows,
            .first_token = place_.first_token,
            .first = share_.begin + (static_cast<int>(threadIdx.x) >> rows_log2_),
            .n = share_.end,
            .step = kThreads >> rows_log2_};
  }

  __device__ void write(ResidualAhead& residual) const {
    const RowShare share = row_share();
    const int row = own_row();
    store_sums<4>(
        p_, share, [&](int token) { return sums_[token * stride_ + row]; },
        [&](const auto& value) { residual.add(p_, share, value); });
  }

  __device__ void write_swiglu() const {
    const int n_rows = 1 << (rows_log2_ - 1), first_row = place_.first_slot / 2 * kTileRows;
    const bool one_factor = p_.parts[0].row_factors == nullptr && p_.parts[1].row_factors == nullptr;
    if (first_row + n_rows <= p_.parts[0].n_rows && one_factor) {
      switch (p_.warps_m_log2) {
        case 2:
          return write_swiglu_runs<1>(first_row);
        case 3:
          return write_swiglu_runs<2>(first_row);
        default:
          return write_swiglu_runs<4>(first_row);
      }
    }
    const int row = threadIdx.x & (n_rows - 1), panel = row / kTileRows, step = kThreads / n_rows;
    const SwiGluRow to(p_, place_.first_slot / 2 + panel, row % kTileRows);
    if (!to.exists) return;
    const float* gate = sums_ + place_of(2 * panel) * kTileRows + row % kTileRows;
    const float* up = sums_ + place_of(2 * panel + 1) * kTileRows + row % kTileRows;
    for (int token = share_.begin + static_cast<int>(threadIdx.x) / n_rows; token < share_.end; token += step)
      to.store(place_.first_token + token, gate[token * stride_], up[token * stride_]);
  }

  // Of whole panels whose rows have one factor, 32 kLanes rows of gate: k_position() puts rows 2 m and 2 m + 1 of each
  // 32 beside those of the next 32, and thus 2 kLanes values a token into one word.
  template <int kLanes>
  __device__ void write_swiglu_runs(int first_row) const {
    struct alignas(4 * kLanes) Run {
      __half2 of[kLanes];
    };
    const int m = threadIdx.x % 16;
    // Rows 2 m, 2 m + 1 of the first 32; see place_of().
    const float* gate = sums_ + (m < 8 ? 0 : 3 * kTileRows) + 2 * (m % 8);
    const float* up = sums_ + (m < 8 ? kTileRows : 2 * kTileRows) + 2 * (m % 8);
    __half* ff = p_.ff + k_position(first_row + 2 * m);
    for (int token = share_.begin + static_cast<int>(threadIdx.x) / 16; token < share_.end; token += kThreads / 16) {
      const float factor = token_factors().of_sums[(place_.first_token + token) % kMaxCtaTokens];
      const float of_gate = factor * p_.parts[0].factor, of_up = factor * p_.parts[1].factor;
      Run run;
#pragma unroll
      for (int l = 0; l < kLanes; ++l) {
        const auto g = *reinterpret_cast<const float2*>(gate + token * stride_ + 64 * l);
        const auto u = *reinterpret_cast<const float2*>(up + token * stride_ + 64 * l);
        run.of[l] = __floats2half2_rn(swiglu_of(g.x * of_gate, u.x * of_up), swiglu_of(g.y * of_gate, u.y * of_up));
      }
      *reinterpret_cast<Run*>(ff + (place_.first_token + token) * p_.ff_stride) = run;
    }
  }

  const MmaParams& p_;
  const CtaPlace& place_;
  float* sums_;
  int rows_log2_, stride_, n_tokens_;
  TokenShare share_;
};

#endif  // SPATE_HAS_BULK_COPY

#endif  // __CUDACC__

}  // namespace spate::cuda
