// The end of a product on the tensor cores: a CTA's sums are added up over the warps and the CTAs that shared K, and
// written as the product's epilogue says. Knows nothing of weights or of how the sums came about.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/matmul_params.h"

namespace spate::cuda {

inline constexpr int kMmaWarps = 8;
inline constexpr int kMmaThreads = 32 * kMmaWarps;
inline constexpr int kRowPad = 4;  // floats behind a row of sums in shared memory: no bank conflicts

// Bytes of the sums' exchange in shared memory.
SPATE_HD constexpr int exchange_bytes(int n_octets, int n_panels, int warps_m, int n_warps = kMmaWarps) {
  return n_warps / warps_m * 8 * n_octets * (warps_m * n_panels * kTileRows + kRowPad) * 4;
}

#ifdef __CUDACC__

// A warp's sums: kPanels x 16 rows by kOctets x 8 tokens. Lane 4 g + t holds rows g, g + 8 and tokens 2 t, 2 t + 1 of
// each.
template <int kOctets, int kPanels>
struct Sums {
  float of[kPanels][kOctets][4];
};

// Which panel of which part a slot below n_slots is.
struct SlotPlace {
  int part, panel;
};
__device__ __forceinline__ SlotPlace slot_place(const MmaParams& p, int slot) {
  if (p.epilogue == Epilogue::kSwiGlu) return {slot & 1, slot >> 1};
  int part = 0, first = 0;
  while (slot >= p.parts[part].panel_end) first = p.parts[part++].panel_end;
  return {part, slot - first};
}

inline constexpr int kMaxCtaTokens = 128;

// Of the CTA's tokens, of token t at t % kMaxCtaTokens.
struct TokenFactors {
  float of_sums[kMaxCtaTokens];     // what sums are multiplied by (FoldedNorm)
  float next_scale[kMaxCtaTokens];  // NextNorm::scale
};
__device__ __forceinline__ TokenFactors& token_factors() {
  __shared__ TokenFactors factors;
  return factors;
}

// Works them out for tokens [first, first + n), and leaves the next norm's scale; thread `thread` of n_threads of the
// CTA, after the wait for the predecessor and before a barrier. While the CTA waits for its activations it costs next
// to nothing. kLanes: that share a token, 8 to 32, the fewer the more tokens there are.
template <int kLanes>
__device__ __forceinline__ void prepare_token_factors(const MmaParams& p, int first, int n, int thread, int n_threads) {
  TokenFactors& factors = token_factors();
  for (int t = thread; t < n; t += n_threads) {
    if (p.norm.squares == nullptr) factors.of_sums[(first + t) % kMaxCtaTokens] = 1;
    if (p.next.x != nullptr) factors.next_scale[(first + t) % kMaxCtaTokens] = __ldcg(p.next.scale + first + t);
  }
  if (p.norm.squares == nullptr) return;
  const int lane = thread % kLanes, n_vecs = squares_stride(p.n_cols) / 4;
  const uint32_t mask = 0xffffffffu >> (32 - kLanes) << (thread % 32 / kLanes * kLanes);
  for (int t = thread / kLanes; t < n; t += n_threads / kLanes) {
    const int token = first + t;
    const auto* squares = reinterpret_cast<const float4*>(p.norm.squares) + int64_t{token} * n_vecs;
    const float scale = __ldcg(p.norm.scale + token);
    float sum = 0;
#pragma unroll 64 / kLanes
    for (int i = lane; i < n_vecs; i += kLanes) {
      const float4 v = __ldcg(squares + i);
      sum += (v.x + v.y) + (v.z + v.w);
    }
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(mask, sum, distance);
    if (lane != 0) continue;
    const float r = rsqrtf(sum / static_cast<float>(p.n_cols) + p.norm.epsilon);
    factors.of_sums[token % kMaxCtaTokens] = r / scale;
    if (blockIdx.y == 0) p.norm.next_scale[token] = fold_scale(r);  // other rows of CTAs have the same
  }
}

// A thread's share of a panel: one row, and tokens first, first + step, ... below n of those from first_token on.
// Sixteen neighbouring lanes, from a multiple of 16 on, have the rows of a panel and the same tokens.
struct RowShare {
  int slot, row;
  int first_token, first, n, step;
};

// The residual becomes `sum`, of row r of a token, and what the next norm needs of it is left (NextNorm). weight: that
// norm's. The 16 lanes of a panel, also those whose rows do not exist.
__device__ __forceinline__ void write_residual(const MmaParams& p, int token, int r, float weight, float sum) {
  const int n_rows = p.parts[0].n_rows;
  if (r < n_rows) {
    p.y[token * p.y_stride + r] = sum;
    constexpr float kLargest = 65504.0f;
    const float x = sum * weight * token_factors().next_scale[token % kMaxCtaTokens];
    p.next.x[int64_t{token} * padded_cols(n_rows) + k_position(r)] =
        __float2half_rn(fminf(fmaxf(x, -kLargest), kLargest));
  }
  const uint32_t mask = 0xffffu << (threadIdx.x & 16);
  float squares = sum * sum;
#pragma unroll
  for (int distance = kTileRows / 2; distance > 0; distance /= 2) squares += __shfl_xor_sync(mask, squares, distance);
  if (r % kTileRows == 0) p.next.squares[int64_t{token} * squares_stride(n_rows) + r / kTileRows] = squares;
}

// Adds to rows of the residual where a norm follows. value(token): of the addition.
template <int kAtOnce, typename Value>
__device__ __forceinline__ void add_to_residual(const MmaParams& p, const RowShare& share, Value&& value) {
  const int r = share.slot * kTileRows + share.row;
  const bool exists = r < p.parts[0].n_rows;
  const float weight = exists ? p.next.weight[r] : 0;
  for (int first = share.first; first < share.n; first += kAtOnce * share.step) {
    float y[kAtOnce], added[kAtOnce];  // read before anything is written: as many answers are under way at once
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int t = first + k * share.step;
      if (t >= share.n) break;
      y[k] = exists ? __ldcg(p.y + (share.first_token + t) * p.y_stride + r) : 0;
      added[k] = exists ? value(t) : 0;
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int t = first + k * share.step;
      if (t >= share.n) break;
      write_residual(p, share.first_token + t, r, weight, y[k] + added[k]);
    }
  }
}

// What a row's sums are multiplied by, whatever the token. A row that does not exist has some factor.
__device__ __forceinline__ float row_factor(const MatmulPart& part, int row) {
  if (part.row_factors == nullptr || row >= part.n_rows) return part.factor;
  return part.factor * __ldg(part.row_factors + row);
}

// Writes a thread's share of the sums; sum(t): of token share.first_token + t. Each element of y belongs to one thread
// of one CTA, so that an addition needs no order; as an atomic one it needs no answer either. add(value): as
// add_to_residual(), where a norm follows.
template <int kAtOnce, typename Sum, typename Add>
__device__ __forceinline__ void store_sums(const MmaParams& p, const RowShare& share, Sum&& sum, Add&& add) {
  if (share.slot >= p.n_slots) return;
  const SlotPlace place = slot_place(p, share.slot);
  const MatmulPart& part = p.parts[place.part];
  const float factor = row_factor(part, place.panel * kTileRows + share.row);
  const auto value = [&](int t) {
    return sum(t) * factor * token_factors().of_sums[(share.first_token + t) % kMaxCtaTokens];
  };
  if (p.next.x != nullptr) return add(value);
  const int r = place.panel * kTileRows + share.row;
  if (r >= part.n_rows) return;
  float* y = p.y + share.first_token * p.y_stride + part.column + r;
  for (int first = share.first; first < share.n; first += kAtOnce * share.step) {
    float values[kAtOnce];  // sums that other CTAs left come from far: all are asked for before one is used
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) values[k] = first + k * share.step < share.n ? value(first + k * share.step) : 0;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int t = first + k * share.step;
      if (t >= share.n) break;
      if (p.epilogue == Epilogue::kAdd) {
        atomicAdd(y + t * p.y_stride, values[k]);
      } else {
        y[t * p.y_stride] = values[k];
      }
    }
  }
}

template <int kAtOnce, typename Sum>
__device__ __forceinline__ void store_sums(const MmaParams& p, const RowShare& share, Sum&& sum) {
  store_sums<kAtOnce>(p, share, sum, [&](const auto& value) { add_to_residual<kAtOnce>(p, share, value); });
}

// An approximate quotient: float16 has no room for its last places.
__device__ __forceinline__ float swiglu_of(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up * kFfScale;
}

// Where the SwiGLU of one row goes, by token.
struct SwiGluRow {
  bool exists;
  __half* ff;  // the row's element of token 0
  int64_t stride;
  float gate_factor, up_factor;

  __device__ SwiGluRow(const MmaParams& p, int panel, int row)
      : exists(panel * kTileRows + row < p.parts[0].n_rows),
        ff(p.ff + k_position(panel * kTileRows + row)),
        stride(p.ff_stride),
        gate_factor(row_factor(p.parts[0], panel * kTileRows + row)),
        up_factor(row_factor(p.parts[1], panel * kTileRows + row)) {}

  __device__ void store(int token, float gate_sum, float up_sum) const {
    const float factor = token_factors().of_sums[token % kMaxCtaTokens];
    ff[token * stride] = __float2half_rn(swiglu_of(gate_sum * gate_factor * factor, up_sum * up_factor * factor));
  }
};

__device__ __forceinline__ void store_swiglu(const MmaParams& p, int panel, int row, int token, float gate_sum,
                                             float up_sum) {
  const SwiGluRow to(p, panel, row);
  if (to.exists) to.store(token, gate_sum, up_sum);
}

// What a CTA's tile of sums still needs: added up over its warps that shared K, over the CTAs that did, then written.
template <int kOctets, int kPanels>
class Epilogues {
 public:
  __device__ Epilogues(const MmaParams& p, float* exchange, int first_slot, int first_token, int tile_index)
      : p_(p),
        exchange_(exchange),
        rows_log2_(p.warps_m_log2 + (kPanels == 2 ? 5 : 4)),
        stride_((1 << rows_log2_) + kRowPad),
        first_slot_(first_slot),
        first_token_(first_token),
        tile_index_(tile_index),
        n_tokens_(min(p.n_tokens - first_token, kTokens)) {}

  __device__ void run(const Sums<kOctets, kPanels>& sums, int warp_m, int warp_k) {
    exchange(sums, warp_m, warp_k);
    int n_parts = kMmaWarps >> p_.warps_m_log2;
    if (gridDim.z > 1) {
      if (!share_partials()) return;
      collect_partials();
      n_parts = 1;
    }
    write([&](int token, int row) {
      float sum = 0;
      const float* at = exchange_ + token * stride_ + row;
      for (int k = 0; k < n_parts; ++k) sum += at[k * kTokens * stride_];
      return sum;
    });
  }

 private:
  static constexpr int kTokens = 8 * kOctets;

  // Sums of all warps to shared memory, [warps_k][kTokens][rows + pad].
  __device__ void exchange(const Sums<kOctets, kPanels>& sums, int warp_m, int warp_k) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    __syncthreads();  // the activations lie in the same memory
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
#pragma unroll
      for (int o = 0; o < kOctets; ++o) {
        const float* sum = sums.of[panel][o];
        float* at =
            exchange_ + (warp_k * kTokens + 8 * o + 2 * t) * stride_ + (warp_m * kPanels + panel) * kTileRows + g;
        at[0] = sum[0];
        at[stride_] = sum[1];
        at[8] = sum[2];
        at[stride_ + 8] = sum[3];
      }
    }
    __syncthreads();
  }

  // Of four rows from `row` on, over the warps that shared K.
  __device__ float4 own_sums(int token, int row) const {
    float4 sum = {0, 0, 0, 0};
    const float* at = exchange_ + token * stride_ + row;
    for (int k = 0; k < kMmaWarps >> p_.warps_m_log2; ++k)
      add(sum, *reinterpret_cast<const float4*>(at + k * kTokens * stride_));
    return sum;
  }
  __device__ static void add(float4& sum, float4 other) {
    sum.x += other.x;
    sum.y += other.y;
    sum.z += other.z;
    sum.w += other.w;
  }

  __device__ float* partial(unsigned part) const {
    return p_.partials + ((int64_t{tile_index_} * gridDim.z + part) * kTokens << rows_log2_);
  }

  // Leaves this CTA's sums for the others; true in the CTA that comes last.
  __device__ bool share_partials() {
    __shared__ bool last;
    auto* mine = reinterpret_cast<float4*>(partial(blockIdx.z));
    for (int i = threadIdx.x; i < n_tokens_ << (rows_log2_ - 2); i += kMmaThreads)
      __stcg(mine + i, own_sums(i >> (rows_log2_ - 2), (i << 2) & ((1 << rows_log2_) - 1)));
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      last = atomicAdd(&p_.counters[tile_index_], 1u) == gridDim.z - 1;
      if (last) p_.counters[tile_index_] = 0;
    }
    __syncthreads();
    if (last) __threadfence();
    return last;
  }

  // The sums of all CTAs, added up in their order, to where the first warps' sums were. They come from far: many are
  // asked for at once.
  __device__ void collect_partials() {
    constexpr int kAtOnce = 4;
    const int n = n_tokens_ << (rows_log2_ - 2);
    for (int first = threadIdx.x; first < n; first += kAtOnce * kMmaThreads) {
      float4 sums[kAtOnce] = {};
#pragma unroll 4
      for (unsigned part = 0; part < gridDim.z; ++part) {
        const auto* from = reinterpret_cast<const float4*>(partial(part));
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k)
          if (first + k * kMmaThreads < n) add(sums[k], __ldcg(from + first + k * kMmaThreads));
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = first + k * kMmaThreads;
        if (i >= n) break;
        const int row = (i << 2) & ((1 << rows_log2_) - 1);
        *reinterpret_cast<float4*>(exchange_ + (i >> (rows_log2_ - 2)) * stride_ + row) = sums[k];
      }
    }
    __syncthreads();
  }

  template <typename Sum>
  __device__ void write(Sum&& sum) {
    if (p_.epilogue == Epilogue::kSwiGlu) {
      // A thread has one row of gate and of up, and every so many tokens of it.
      const int half_log2 = rows_log2_ - 1, row = threadIdx.x & ((1 << half_log2) - 1), panel = row / kTileRows;
      const int gate_row = 2 * panel * kTileRows + row % kTileRows;
      const SwiGluRow to(p_, first_slot_ / 2 + panel, row % kTileRows);
      if (!to.exists) return;
#pragma unroll 4
      for (int token = threadIdx.x >> half_log2; token < n_tokens_; token += kMmaThreads >> half_log2)
        to.store(first_token_ + token, sum(token, gate_row), sum(token, gate_row + kTileRows));
      return;
    }
    const int row = threadIdx.x & ((1 << rows_log2_) - 1);
    store_sums<kOctets == 1 ? 4 : 8>(p_,
                                     {.slot = first_slot_ + row / kTileRows,
                                      .row = row % kTileRows,
                                      .first_token = first_token_,
                                      .first = static_cast<int>(threadIdx.x) >> rows_log2_,
                                      .n = n_tokens_,
                                      .step = kMmaThreads >> rows_log2_},
                                     [&](int token) { return sum(token, row); });
  }

  const MmaParams& p_;
  float* exchange_;
  int rows_log2_, stride_, first_slot_, first_token_, tile_index_, n_tokens_;
};

template <int kOctets, int kPanels>
__device__ __forceinline__ void finish_tile(const MmaParams& p, float* exchange, int first_slot, int first_token,
                                            int tile_index, const Sums<kOctets, kPanels>& sums, int warp_m,
                                            int warp_k) {
  Epilogues<kOctets, kPanels>(p, exchange, first_slot, first_token, tile_index).run(sums, warp_m, warp_k);
}

#endif  // __CUDACC__

}  // namespace spate::cuda
