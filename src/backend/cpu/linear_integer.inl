// Products of integer formats with int8 activations, and with them the definition of their results. Included inside the
// anonymous namespace of a kernel translation unit, after linear_formats.inl.
//
// For each row and token there is one float32 accumulator, from 0, and for each 32 columns in ascending order:
//   isum = sum of (code - kOffset) * q, exact in int32
//   acc = fma(float(isum), scale * x_scale, acc)
//   acc = fma(minimum, x_scale * float(sum of q), acc)      in formats with a minimum
// In formats that have scales per 16, these are d times small integers, and so each half's isum is multiplied by its
// own one and added to the other's, which is exact too, below 2^24 (so it does not matter whether as int32 or float32):
//   acc = fma(float(factor[0] * isum[0] + factor[1] * isum[1]), d * x_scale, acc)
//   acc = fma(-float(minimum[0] * sum of q[0..15] + minimum[1] * sum of q[16..31]), dmin * x_scale, acc)    in Q2_K
//
// The weights of a step stay in registers while the tokens pass by, so each is decoded once per kTokenBlock tokens.

// Of the two halves of the columns, in formats that have scales per 16.
struct RawSums {
  Ints half[2];
};

template <typename F>
constexpr int kCodeOffset = F::kSigned ? (kCodesBiased ? 128 : 0) : F::kOffset;

constexpr int log2_of(int power) {
  return power <= 1 ? 0 : 1 + log2_of(power / 2);
}

// raw: activations times the codes as they are. kOffset and the bias of signed codes are taken off, unless the products
// started with them (kOffsetFirst).
template <typename F>
Ints without_offset(Ints raw, Ints sum_of_q) {
  if constexpr (kCodeOffset<F> == 0 || kOffsetFirst)
    return raw;
  else
    return sub_ints(raw, shift_left<log2_of(kCodeOffset<F>)>(sum_of_q));
}

template <typename F>
Floats add_minimum(Floats minimum, Floats scaled_sum, Floats acc) {
  return F::kMinimum > 0 ? fma(minimum, scaled_sum, acc) : fnma(minimum, scaled_sum, acc);
}

template <typename F>
Floats accumulate(Ints raw, const Scales& w, const ActivationBlock& x, Floats acc) {
  const Ints isum = without_offset<F>(raw, broadcast_int(x.sum));
  acc = fma(to_floats(isum), mul(w.scale, broadcast(x.scale)), acc);
  if constexpr (F::kMinimum != 0) acc = add_minimum<F>(w.minimum, broadcast(x.scaled_sum), acc);
  return acc;
}

// The same of formats that have scales per 16.
struct HalfScales {
  Floats factor[2], minimum[2];
  Floats d, dmin;
};

inline Floats weigh(const Floats (&factor)[2], Floats first, Floats second) {
  return fma(second, factor[1], mul(first, factor[0]));
}

template <typename F>
Floats accumulate(const RawSums& raw, const HalfScales& w, const ActivationBlock& x, Floats acc) {
  const Ints sum[2] = {broadcast_int(x.half_sums[0]), broadcast_int(x.half_sums[1])};
  const Floats x_scale = broadcast(x.scale);
  acc = fma(weigh(w.factor, to_floats(without_offset<F>(raw.half[0], sum[0])),
                  to_floats(without_offset<F>(raw.half[1], sum[1]))),
            mul(w.d, x_scale), acc);
  if constexpr (F::kMinimum != 0)
    acc = add_minimum<F>(weigh(w.minimum, to_floats(sum[0]), to_floats(sum[1])), mul(w.dmin, x_scale), acc);
  return acc;
}

template <typename F>
using StepScales = std::conditional_t<F::kScaleColumns == 32, Scales, HalfScales>;

template <QuantType type>
StepScales<Format<type>> step_scales(const PanelBlock<type>& block, const typename Format<type>::Header& header,
                                     int step, int row) {
  using F = Format<type>;
  StepScales<F> scales;
  if constexpr (F::kScaleColumns == 32) {
    F::scales(block, header, step, row, scales);
  } else {
    HalfFactors factors;
    F::factors(block, step, row, factors);
    scales.d = header.d;
    if constexpr (F::kMinimum != 0) scales.dmin = header.dmin;
    for (int half = 0; half < 2; ++half) {
      scales.factor[half] = to_floats(factors.scale[half]);
      if constexpr (F::kMinimum != 0) scales.minimum[half] = to_floats(factors.minimum[half]);
    }
  }
  return scales;
}

template <typename F, int kGroups>
Ints dot(const Bytes* codes, const int8_t* q, int32_t sum_of_q) {
  const Ints start = broadcast_int(kOffsetFirst ? -kCodeOffset<F> * sum_of_q : 0);
  if constexpr (F::kSigned)
    return dot_signed<kGroups>(codes, q, start);
  else
    return dot_unsigned<(1 << F::kBits) - 1, kGroups>(codes, q, start);
}

template <typename F>
auto multiply(const Bytes* codes, const ActivationBlock& x) {
  if constexpr (F::kScaleColumns == 32)
    return dot<F, 8>(codes, x.q, x.sum);
  else
    return RawSums{{dot<F, 4>(codes, x.q, x.half_sums[0]), dot<F, 4>(codes + 4, x.q + 16, x.half_sums[1])}};
}

// Writes rows of y from a token's 16 results.
inline void finish_token(const PanelProduct& p, int token, const float* results) {
  float* y = p.y + token * p.y_stride;
  if (p.n_valid == kPanelRows) {
    for (int row = 0; row < kPanelRows; row += kLanes) {
      Floats v = load_floats(results + row);
      if (p.bias != nullptr) v = add(v, load_floats(p.bias + row));
      if (p.accumulate) v = add(load_floats(y + row), v);
      store_floats(y + row, v);
    }
    return;
  }
  for (int row = 0; row < p.n_valid; ++row) {
    const float v = p.bias != nullptr ? results[row] + p.bias[row] : results[row];
    y[row] = p.accumulate ? y[row] + v : v;
  }
}

// results[n_tokens][16]. kTokens is 1 or kAnyTokens: alone, a token's accumulators stay in registers.
constexpr int kAnyTokens = 0;

// Bytes ahead of a step from which its share of the weights to come is fetched: as many as the vocabulary says, in
// whole blocks, so that each line is fetched by one step. Without it the processor's own prefetching starts anew at
// every page.
template <typename Block>
constexpr int64_t kBytesAhead =
    (kPrefetchBytes + int64_t{sizeof(Block)} - 1) / int64_t{sizeof(Block)} * int64_t{sizeof(Block)};

template <int64_t n_bytes>
void prefetch(const void* from) {
  for (int64_t byte = 0; byte < n_bytes; byte += 64) __builtin_prefetch(static_cast<const char*>(from) + byte);
}

// What lies before the codes of a block some way ahead, and the codes of one step there. Either is shared out among the
// passes over the rows.
template <typename Block>
void prefetch_scales(const Block& block, int row) {
  if (row == 0)
    prefetch<int64_t{sizeof(Block) - sizeof(Block::codes)}>(reinterpret_cast<const char*>(&block) + kBytesAhead<Block>);
}
template <typename Block>
void prefetch_codes(const Block& block, int step, int row) {
  constexpr int kPasses = kPanelRows / kLanes;
  constexpr int64_t kShare = int64_t{sizeof(block.codes[0])} / kPasses;
  prefetch<kShare>(reinterpret_cast<const char*>(&block.codes[step]) + kBytesAhead<Block> + row / kLanes * kShare);
}

template <QuantType type, int kTokens>
void integer_product(const PanelProduct& p, float* results) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);  // of 32 columns a panel block
  const int n_tokens = kTokens == kAnyTokens ? p.n_tokens : kTokens;
  const int64_t n_blocks = p.n_cols / (kSteps * kActivationBlock);
  const ActivationBlock* x = p.blocks;

  Floats alone[kPanelRows / kLanes];
  if constexpr (kTokens == 1)
    for (Floats& acc : alone) acc = zero_floats();
  else
    for (int i = 0; i < n_tokens * kPanelRows; i += kLanes) store_floats(results + i, zero_floats());

  for (int64_t i = 0; i < n_blocks; ++i, x += kSteps * p.block_stride) {
    const Block& block = reinterpret_cast<const Block*>(p.panel)[i];
    for (int row = 0; row < kPanelRows; row += kLanes) {
      const auto header = F::header(block, row);
      prefetch_scales(block, row);
      Floats sum = kTokens == 1 ? alone[row / kLanes] : zero_floats();
      for (int step = 0; step < kSteps; ++step) {
        const StepScales<F> scales = step_scales<type>(block, header, step, row);
        Bytes codes[8];
        decode_codes<F>(block.codes[step], row, codes);
        prefetch_codes(block, step, row);
        const ActivationBlock* x_step = x + step * p.block_stride;
        if constexpr (kTokens == 1) {
          sum = accumulate<F>(multiply<F>(codes, *x_step), scales, *x_step, sum);
        } else {
          for (int t = 0; t < n_tokens; ++t) {
            float* acc = results + t * kPanelRows + row;
            store_floats(acc, accumulate<F>(multiply<F>(codes, x_step[t]), scales, x_step[t], load_floats(acc)));
          }
        }
      }
      alone[row / kLanes] = sum;
    }
  }
  if constexpr (kTokens == 1)
    for (int row = 0; row < kPanelRows; row += kLanes) store_floats(results + row, alone[row / kLanes]);
}

// The same in other orders of work: linear_integer_pairs.inl.
template <QuantType type>
void integer_product_alone(const PanelProduct& p, float* results);
template <QuantType type>
void integer_product_by_halves(const PanelProduct& p, float* results);

template <QuantType type>
void integer_panel_product(const PanelProduct& p) {
  alignas(64) float results[kTokenBlock * kPanelRows];
  if constexpr (kPairs) {
    if (p.n_tokens == 1)
      integer_product_alone<type>(p, results);
    else if constexpr (Format<type>::kSigned)
      integer_product<type, kAnyTokens>(p, results);
    else
      integer_product_by_halves<type>(p, results);
  } else if (p.n_tokens == 1) {
    integer_product<type, 1>(p, results);
  } else {
    integer_product<type, kAnyTokens>(p, results);
  }
  for (int t = 0; t < p.n_tokens; ++t) finish_token(p, t, results + t * kPanelRows);
}
