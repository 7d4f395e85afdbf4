// The functions of OpTable, in the vocabulary of f32x16.h. Compiled once per instruction set, see f32x16.h.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/f32x16.h"
#include "backend/cpu/ops.h"
#include "backend/executor.h"

namespace spate::cpu::SPATE_ISA_NAMESPACE {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Not std's: an instance of a std template made here, with this file's instruction set, could serve the whole program.
inline int min(int a, int b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}
inline float max(float a, float b) {
  return a > b ? a : b;
}

// The first n < 16 floats at p; zeros in the other lanes.
inline F32x16 load_first(const float* p, int n) {
  float lanes[kLanes] = {};
  std::memcpy(lanes, p, n * sizeof(float));
  return load(lanes);
}

inline void store_first(float* p, F32x16 a, int n) {
  float lanes[kLanes];
  store(lanes, a);
  std::memcpy(p, lanes, n * sizeof(float));
}

inline void rms_norm(const float* x, const float* weight, float epsilon, int n, float* out) {
  const int whole = n / kLanes * kLanes;
  F32x16 squares = splat(0);
  for (int i = 0; i < whole; i += kLanes) {
    const F32x16 v = load(x + i);
    squares = fma(v, v, squares);
  }
  if (whole < n) {
    const F32x16 v = load_first(x + whole, n - whole);
    squares = fma(v, v, squares);
  }
  const F32x16 scale = splat(1.0f / std::sqrt(reduce_add(squares) / static_cast<float>(n) + epsilon));
  for (int i = 0; i < whole; i += kLanes) store(out + i, load(x + i) * scale * load(weight + i));
  if (whole < n) {
    const int rest = n - whole;
    store_first(out + whole, load_first(x + whole, rest) * scale * load_first(weight + whole, rest), rest);
  }
}

inline void rotate_pair(float& a, float& b, float cos, float sin) {
  const float x = a, y = b;
  a = x * cos - y * sin;
  b = x * sin + y * cos;
}

inline void rope_norm(float* head, const float* cos_sin, int rotary_dim) {
  const float *cos = cos_sin, *sin = cos_sin + rotary_dim / 2;
  for (int i = 0; i < rotary_dim / 2; ++i) rotate_pair(head[2 * i], head[2 * i + 1], cos[i], sin[i]);
}

inline void rope_neox(float* head, const float* cos_sin, int rotary_dim) {
  const int half = rotary_dim / 2;
  const float *cos = cos_sin, *sin = cos_sin + half;
  int i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const F32x16 x = load(head + i), y = load(head + half + i), c = load(cos + i), s = load(sin + i);
    store(head + i, x * c - y * s);
    store(head + half + i, x * s + y * c);
  }
  for (; i < half; ++i) rotate_pair(head[i], head[i + half], cos[i], sin[i]);
}

inline void store_kv(const float* k, const float* v, const KvLayout& layout, uint16_t* page, int offset) {
  const int head_dim = layout.head_dim, head_stride = layout.head_stride();
  for (int head = 0; head < layout.n_kv_heads; ++head) {
    uint16_t* keys = page + head * layout.head_elems();
    uint16_t* values = keys + layout.keys_elems() + static_cast<int64_t>(offset) * head_stride;
    for (int d = 0; d < head_dim; d += kLanes) {
      const int n = min(kLanes, head_dim - d);
      const float* k_part = k + head * head_dim + d;
      const float* v_part = v + head * head_dim + d;
      uint16_t halves[kLanes];
      store_half(halves, n == kLanes ? load(k_part) : load_first(k_part, n));
      for (int i = 0; i < n; ++i) keys[static_cast<int64_t>(d + i) * kPageTokens + offset] = halves[i];
      store_half(values + d, n == kLanes ? load(v_part) : load_first(v_part, n));
    }
  }
}

// Running softmax of one query (Milakov and Gimelshein 2018; Dao et al. 2022): maximum, sum of exponentials, and values
// weighted by them, all relative to the maximum. Lies in memory as [attention_state_elems()] floats.
struct SoftmaxState {
  float* data;
  int head_stride;
  float& maximum() { return data[head_stride]; }
  float& sum() { return data[head_stride + 1]; }
  float* values() { return data; }
  void clear() {
    for (int i = 0; i < head_stride; ++i) data[i] = 0;
    maximum() = -kInfinity;
    sum() = 0;
  }
};

inline SoftmaxState state_at(float* states, int64_t index, const KvLayout& layout) {
  return {.data = states + index * attention_state_elems(layout.head_dim), .head_stride = layout.head_stride()};
}

inline void merge(SoftmaxState into, SoftmaxState from) {
  if (from.sum() == 0) return;  // no key of that unit was visible
  const float maximum = max(into.maximum(), from.maximum());
  float factors[kLanes] = {into.maximum() - maximum, from.maximum() - maximum};
  store(factors, exp(load(factors)));
  into.maximum() = maximum;
  into.sum() = into.sum() * factors[0] + from.sum() * factors[1];
  const F32x16 keep = splat(factors[0]), add = splat(factors[1]);
  for (int d = 0; d < into.head_stride; d += kLanes)
    store(into.values() + d, fma(load(from.values() + d), add, load(into.values() + d) * keep));
}

inline void write_output(SoftmaxState state, float* out, int head_dim) {
  const F32x16 scale = splat(1.0f / state.sum());
  for (int d = 0; d < head_dim; d += kLanes) {
    const F32x16 v = load(state.values() + d) * scale;
    if (head_dim - d >= kLanes)
      store(out + d, v);
    else
      store_first(out + d, v, head_dim - d);
  }
}

// Queries that share each load and conversion of keys and values: as many as have their two sums in registers, beside
// two vectors of keys and one of a query. At 8, of 20 operations on the two ports that multiply, 16 are products; at 4,
// 8 of 12.
#if defined(__AVX512F__)
constexpr int kQueryTile = 8;
#else
constexpr int kQueryTile = 2;
#endif
static_assert(kQueryTile <= kLanes, "a lane a query holds the factors of a tile");

struct Queries {
  const float* q[kQueryTile];
  SoftmaxState state[kQueryTile];
  int n_visible[kQueryTile];  // keys of the page that the query may see; <= 0: none
};

// Scores of R queries against the 32 keys of a page, -infinity where the query does not see the key.
template <int R>
inline void score_page(const Queries& queries, const uint16_t* keys, int head_dim, float scale,
                       float (*scores)[kPageTokens]) {
  F32x16 low[R], high[R];
  for (int r = 0; r < R; ++r) low[r] = high[r] = splat(0);
  for (int d = 0; d < head_dim; ++d) {
    const F32x16 k_low = load_half(keys + d * kPageTokens), k_high = load_half(keys + d * kPageTokens + kLanes);
    for (int r = 0; r < R; ++r) {
      const F32x16 q = splat(queries.q[r][d]);
      low[r] = fma(k_low, q, low[r]);
      high[r] = fma(k_high, q, high[r]);
    }
  }
  for (int r = 0; r < R; ++r) {
    const int n = queries.n_visible[r];
    store(scores[r], first_lanes(low[r] * splat(scale), n, splat(-kInfinity)));
    store(scores[r] + kLanes, first_lanes(high[r] * splat(scale), n - kLanes, splat(-kInfinity)));
  }
}

// scores[R][32] become exp(score - maximum), and `keep` the factor that brings what the state held to the new maximum.
template <int R>
inline void update_softmax(const Queries& queries, float (*scores)[kPageTokens], float (&keep)[kLanes]) {
  float now[kLanes] = {};
  for (int i = 0; i < kLanes; ++i) keep[i] = 0;
  for (int r = 0; r < R; ++r) {
    if (queries.n_visible[r] <= 0) continue;  // a maximum of -infinity would make NaN of the factor
    SoftmaxState state = queries.state[r];
    keep[r] = state.maximum();
    now[r] = max(keep[r], reduce_max(max(load(scores[r]), load(scores[r] + kLanes))));
    state.maximum() = now[r];
  }
  store(keep, exp(load(keep) - load(now)));  // of all queries at once
  for (int r = 0; r < R; ++r) {
    const F32x16 low = exp(load(scores[r]) - splat(now[r])), high = exp(load(scores[r] + kLanes) - splat(now[r]));
    store(scores[r], low);
    store(scores[r] + kLanes, high);
    SoftmaxState state = queries.state[r];
    state.sum() = state.sum() * keep[r] + reduce_add(low + high);
  }
}

// values(state) = values(state) * keep + weights . page values, for one (C = 1) or two (C = 2) vectors of the head.
template <int R, int C>
inline void weigh_values(const Queries& queries, const uint16_t* values, int head_stride, int d, int n_keys,
                         const float (*weights)[kPageTokens], const float* keep) {
  F32x16 sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      SoftmaxState state = queries.state[r];
      sum[r][c] = load(state.values() + d + c * kLanes) * splat(keep[r]);
    }
  for (int key = 0; key < n_keys; ++key) {
    F32x16 v[C];
    for (int c = 0; c < C; ++c) v[c] = load_half(values + key * head_stride + d + c * kLanes);
    for (int r = 0; r < R; ++r) {
      const F32x16 weight = splat(weights[r][key]);
      for (int c = 0; c < C; ++c) sum[r][c] = fma(weight, v[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      SoftmaxState state = queries.state[r];
      store(state.values() + d + c * kLanes, sum[r][c]);
    }
}

template <int R>
inline void attend_page(const Queries& queries, const uint16_t* page_head, const KvLayout& layout, float scale) {
  int n_keys = 0;
  for (int r = 0; r < R; ++r) n_keys = max(n_keys, min(queries.n_visible[r], kPageTokens));
  if (n_keys <= 0) return;
  float weights[R][kPageTokens], keep[kLanes];
  score_page<R>(queries, page_head, layout.head_dim, scale, weights);
  update_softmax<R>(queries, weights, keep);
  const uint16_t* values = page_head + layout.keys_elems();
  const int head_stride = layout.head_stride();
  int d = 0;
  for (; d + 2 * kLanes <= head_stride; d += 2 * kLanes)
    weigh_values<R, 2>(queries, values, head_stride, d, n_keys, weights, keep);
  if (d < head_stride) weigh_values<R, 1>(queries, values, head_stride, d, n_keys, weights, keep);
}

// attend_page<n>(), 0 < n <= R.
template <int R>
inline void attend_page_tile(int n, const Queries& queries, const uint16_t* page_head, const KvLayout& layout,
                             float scale) {
  if constexpr (R > 1) {
    if (n < R) return attend_page_tile<R - 1>(n, queries, page_head, layout, scale);
  }
  attend_page<R>(queries, page_head, layout, scale);
}

inline void attend_page_queries(const AttentionItem& item, int page_index, float* states) {
  const KvLayout& layout = item.layout;
  const int n_queries = item.n_tokens * item.gqa_group;
  const uint16_t* page_head =
      item.cache + item.pages[page_index] * layout.page_stride + item.kv_head * layout.head_elems();
  for (int first = 0; first < n_queries; first += kQueryTile) {
    const int n = min(kQueryTile, n_queries - first);
    Queries queries;
    for (int r = 0; r < n; ++r) {
      const int token = (first + r) / item.gqa_group, head = (first + r) % item.gqa_group;
      queries.q[r] = item.q + token * item.q_stride + head * layout.head_dim;
      queries.state[r] = state_at(states, first + r, layout);
      queries.n_visible[r] = item.first_position + token + 1 - page_index * kPageTokens;
    }
    attend_page_tile<kQueryTile>(n, queries, page_head, layout, item.scale);
  }
}

inline void attend(const AttentionItem& item) {
  constexpr int kUnitPages = kAttentionUnitTokens / kPageTokens;
  const KvLayout& layout = item.layout;
  const int n_queries = item.n_tokens * item.gqa_group;
  const int64_t states_elems = int64_t{n_queries} * attention_state_elems(layout.head_dim);
  const int n_pages = (item.first_position + item.n_tokens + kPageTokens - 1) / kPageTokens;
  float* totals = item.scratch;
  for (int i = 0; i < n_queries; ++i) state_at(totals, i, layout).clear();

  for (int unit = item.unit_begin; unit < item.unit_end; ++unit) {
    float* states =
        item.partials == nullptr ? totals + states_elems : item.partials + (unit - item.unit_begin) * states_elems;
    for (int i = 0; i < n_queries; ++i) state_at(states, i, layout).clear();
    const int page_end = min(n_pages, (unit + 1) * kUnitPages);
    for (int page = unit * kUnitPages; page < page_end; ++page) attend_page_queries(item, page, states);
    if (item.partials != nullptr) continue;
    for (int i = 0; i < n_queries; ++i) merge(state_at(totals, i, layout), state_at(states, i, layout));
  }
  if (item.partials != nullptr) return;
  for (int i = 0; i < n_queries; ++i) {
    float* out = item.out + (i / item.gqa_group) * item.out_stride + (i % item.gqa_group) * layout.head_dim;
    write_output(state_at(totals, i, layout), out, layout.head_dim);
  }
}

inline void merge_attention(const AttentionItem& item, const float* partials, int n_units) {
  const KvLayout& layout = item.layout;
  const int n_queries = item.n_tokens * item.gqa_group;
  SoftmaxState total = state_at(item.scratch, 0, layout);
  for (int i = 0; i < n_queries; ++i) {
    total.clear();
    for (int unit = 0; unit < n_units; ++unit)
      merge(total, state_at(const_cast<float*>(partials), int64_t{unit} * n_queries + i, layout));
    float* out = item.out + (i / item.gqa_group) * item.out_stride + (i % item.gqa_group) * layout.head_dim;
    write_output(total, out, layout.head_dim);
  }
}

inline void silu_multiply(float* gate, const float* up, int n) {
  const F32x16 one = splat(1), zero = splat(0);
  const auto gated = [&](F32x16 g, F32x16 u) { return g / (one + exp(zero - g)) * u; };
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(gate + i, gated(load(gate + i), load(up + i)));
  if (i < n) store_first(gate + i, gated(load_first(gate + i, n - i), load_first(up + i, n - i)), n - i);
}

inline constexpr OpTable kOps = {
    .rms_norm = rms_norm,
    .rope_norm = rope_norm,
    .rope_neox = rope_neox,
    .store_kv = store_kv,
    .attend = attend,
    .merge_attention = merge_attention,
    .silu_multiply = silu_multiply,
};

}  // namespace spate::cpu::SPATE_ISA_NAMESPACE
