// Products of integer formats in sums of pairs, for AVX2: 16 registers, two vectors of rows a panel, and instructions
// that add neighbouring products as int16. Included inside the anonymous namespace of a kernel translation unit, after
// linear_integer.inl, whose results these are to the bit.
//
// All 16 rows of a step are worked on together, so that each broadcast of activations serves two products. For several
// tokens the codes of 16 columns fill the registers (by halves); a token alone needs each code once (alone).

template <typename F>
constexpr int kMaxCode = F::kSigned ? 128 : (1 << F::kBits) - 1;
// Groups of 4 columns whose pairs of products may be added up as int16, |q| being at most 127.
template <typename F>
constexpr int kRun = 32767 / (2 * 127 * kMaxCode<F>) < 1 ? 1 : 32767 / (2 * 127 * kMaxCode<F>);

// ---- scales

// Of one vector of rows: the two halves' factors, and both in one, as a pair.
struct PairScales {
  Factors factor[2], factors, minimums;
  Floats d, dmin;
};

template <typename F>
using VectorScales = std::conditional_t<F::kScaleColumns == 32, Scales, PairScales>;

template <QuantType type>
[[gnu::always_inline]] inline VectorScales<Format<type>> vector_scales(const PanelBlock<type>& block,
                                                                       const typename Format<type>::Header& header,
                                                                       int step, int row) {
  using F = Format<type>;
  VectorScales<F> w;
  if constexpr (F::kScaleColumns == 32) {
    F::scales(block, header, step, row, w);
  } else {
    HalfFactors factors;
    F::factors(block, step, row, factors);
    for (int half = 0; half < 2; ++half) w.factor[half] = factors.scale[half];
    if constexpr (F::kOffset != 0) w.factors = pair_of(factors.scale[0], factors.scale[1]);
    w.d = header.d;
    if constexpr (F::kMinimum != 0) {
      w.minimums = pair_of(factors.minimum[0], factors.minimum[1]);
      w.dmin = header.dmin;
    }
  }
  return w;
}

// ---- from sums to results

// sum: of 32 columns, the halves weighted. The arithmetic of accumulate() for HalfScales, in int32.
template <typename F>
Floats accumulate_weighted(Ints sum, const PairScales& w, const ActivationBlock& x, Floats acc) {
  const Ints half_sums = broadcast_pair(x.half_sums);
  const Floats x_scale = broadcast(x.scale);
  if constexpr (F::kOffset != 0)
    sum = sub_ints(sum, shift_left<log2_of(F::kOffset)>(multiply_pairs(half_sums, w.factors)));
  acc = fma(to_floats(sum), mul(w.d, x_scale), acc);
  if constexpr (F::kMinimum != 0)
    acc = add_minimum<F>(to_floats(multiply_pairs(half_sums, w.minimums)), mul(w.dmin, x_scale), acc);
  return acc;
}

// ---- several tokens

// Of 16 rows.
struct RowSums {
  Ints first, second;
};

// 16 columns of one token: pairs of int16 still where the step has one scale, weighted int32 where it has two.
template <typename F>
[[gnu::always_inline]] inline Ints sum_of_half(const Bytes (&codes)[4], const Bytes (&q)[4], const VectorScales<F>& w,
                                               int half) {
  const Ints first = add_pairs(products(codes[0], q[0]), products(codes[1], q[1]));
  const Ints second = add_pairs(products(codes[2], q[2]), products(codes[3], q[3]));
  if constexpr (F::kScaleColumns == 32)
    return add_pairs(first, second);
  else if constexpr (kRun<F> >= 4)
    return multiply_pairs(add_pairs(first, second), w.factor[half]);
  else
    return add_ints(multiply_pairs(first, w.factor[half]), multiply_pairs(second, w.factor[half]));
}

template <typename F>
[[gnu::always_inline]] inline void finish_sum(Ints first_half, Ints second_half, const VectorScales<F>& w,
                                              const ActivationBlock& x, float* result) {
  Floats acc = load_floats(result);
  if constexpr (F::kScaleColumns == 16)
    acc = accumulate_weighted<F>(add_ints(first_half, second_half), w, x, acc);
  else if constexpr (kRun<F> >= 8)
    acc = accumulate<F>(sum_of_pairs(add_pairs(first_half, second_half)), w, x, acc);
  else
    acc = accumulate<F>(add_ints(sum_of_pairs(first_half), sum_of_pairs(second_half)), w, x, acc);
  store_floats(result, acc);
}

// All tokens times 16 columns of a step. The sums of the first 16 wait for the others.
template <typename F, int half>
[[gnu::always_inline]] inline void multiply_half(const PanelCodes<F::kBits>& stored, const VectorScales<F> (&w)[2],
                                                 const ActivationBlock* x, int n_tokens, RowSums* waiting,
                                                 float* results) {
  Bytes codes[2][4];
  for (int v = 0; v < 2; ++v) decode_groups<F, 4 * half>(stored, v * kLanes, codes[v], Groups<0, 1, 2, 3>());
  for (int t = 0; t < n_tokens; ++t) {
    Bytes q[4];
    for (int i = 0; i < 4; ++i) q[i] = broadcast_4(x[t].q + 16 * half + 4 * i);
    const RowSums sums = {sum_of_half<F>(codes[0], q, w[0], half), sum_of_half<F>(codes[1], q, w[1], half)};
    if constexpr (half == 0) {
      waiting[t] = sums;
    } else {
      finish_sum<F>(waiting[t].first, sums.first, w[0], x[t], results + t * kPanelRows);
      finish_sum<F>(waiting[t].second, sums.second, w[1], x[t], results + t * kPanelRows + kLanes);
    }
  }
}

template <QuantType type>
void integer_product_by_halves(const PanelProduct& p, float* results) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  static_assert(kPanelRows == 2 * kLanes);
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);
  const int64_t n_blocks = p.n_cols / (kSteps * kActivationBlock);
  const ActivationBlock* x = p.blocks;
  RowSums waiting[kTokenBlock];
  for (int i = 0; i < p.n_tokens * kPanelRows; i += kLanes) store_floats(results + i, zero_floats());

  for (int64_t i = 0; i < n_blocks; ++i, x += kSteps * p.block_stride) {
    const Block& block = reinterpret_cast<const Block*>(p.panel)[i];
    const typename F::Header header[2] = {F::header(block, 0), F::header(block, kLanes)};
    prefetch_scales(block, 0);
    for (int step = 0; step < kSteps; ++step) {
      VectorScales<F> w[2];
      for (int v = 0; v < 2; ++v) {
        w[v] = vector_scales<type>(block, header[v], step, v * kLanes);
        prefetch_codes(block, step, v * kLanes);
      }
      const auto& codes = block.codes[step];
      const ActivationBlock* x_step = x + step * p.block_stride;
      multiply_half<F, 0>(codes, w, x_step, p.n_tokens, waiting, results);
      multiply_half<F, 1>(codes, w, x_step, p.n_tokens, waiting, results);
    }
  }
}

// ---- one token

// Groups [first, first + n) of 4 columns of a step's codes times q, the pairs widened by `factor` whenever int16 is
// full: sums[2] of the two vectors of rows. Each group goes straight from its planes into the sums.
template <typename F, int first, int n, int i = 0>
[[gnu::always_inline]] inline void sum_groups(const PanelCodes<F::kBits>& stored, const int8_t* q,
                                              const Factors (&factor)[2], Ints (&pairs)[2], Ints (&sums)[2]) {
  if constexpr (i < n) {
    constexpr int kGroup = first + i;
    constexpr bool kFirstOfRun = i % kRun<F> == 0, kLastOfRun = i % kRun<F> == kRun<F> - 1 || i == n - 1;
    const Bytes q_group = broadcast_4(q + 4 * kGroup);
    for (int v = 0; v < 2; ++v) {
      const Bytes codes = decode_group<F, kGroup>(stored, v * kLanes);
      const Ints product = F::kSigned ? signed_products(codes, q_group) : products(codes, q_group);
      pairs[v] = kFirstOfRun ? product : add_pairs(pairs[v], product);
      if constexpr (kLastOfRun) {
        const Ints sum = multiply_pairs(pairs[v], factor[v]);
        sums[v] = i < kRun<F> ? sum : add_ints(sums[v], sum);
      }
    }
    sum_groups<F, first, n, i + 1>(stored, q, factor, pairs, sums);
  }
}
template <QuantType type>
void integer_product_alone(const PanelProduct& p, float* results) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);
  const int64_t n_blocks = p.n_cols / (kSteps * kActivationBlock);
  const ActivationBlock* x = p.blocks;
  Floats acc[2] = {zero_floats(), zero_floats()};

  for (int64_t i = 0; i < n_blocks; ++i, x += kSteps * p.block_stride) {
    const Block& block = reinterpret_cast<const Block*>(p.panel)[i];
    const typename F::Header header[2] = {F::header(block, 0), F::header(block, kLanes)};
    prefetch_scales(block, 0);
    for (int step = 0; step < kSteps; ++step) {
      const ActivationBlock& x_step = x[step * p.block_stride];
      VectorScales<F> w[2];
      for (int v = 0; v < 2; ++v) {
        w[v] = vector_scales<type>(block, header[v], step, v * kLanes);
        prefetch_codes(block, step, v * kLanes);
      }
      Ints pairs[2], sums[2];
      if constexpr (F::kScaleColumns == 32) {
        const Factors ones[2] = {same_factors(1), same_factors(1)};
        sum_groups<F, 0, 8>(block.codes[step], x_step.q, ones, pairs, sums);
        for (int v = 0; v < 2; ++v) acc[v] = accumulate<F>(sums[v], w[v], x_step, acc[v]);
      } else {
        const Factors factor[2][2] = {{w[0].factor[0], w[1].factor[0]}, {w[0].factor[1], w[1].factor[1]}};
        Ints second[2];
        sum_groups<F, 0, 4>(block.codes[step], x_step.q, factor[0], pairs, sums);
        sum_groups<F, 4, 4>(block.codes[step], x_step.q, factor[1], pairs, second);
        for (int v = 0; v < 2; ++v) acc[v] = accumulate_weighted<F>(add_ints(sums[v], second[v]), w[v], x_step, acc[v]);
      }
    }
  }
  for (int v = 0; v < 2; ++v) store_floats(results + v * kLanes, acc[v]);
}
