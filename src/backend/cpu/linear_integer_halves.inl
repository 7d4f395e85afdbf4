// integer_product() for 16 registers and two vectors of rows a panel, for codes of up to 4 bits. Included inside the
// anonymous namespace of a kernel translation unit, after linear_integer.inl.
//
// With the codes of 32 columns in registers there is room for 8 rows, and each activation is loaded and broadcast for
// one product. Here the codes of 16 columns are in registers, of all 16 rows, and each broadcast serves two; where 32
// columns share a scale, the sums of the first 16 wait for the others. The results are the same bits. Codes of 5 and 6
// bits, whose sums must be widened earlier, lose a tenth by it.

// Pairs of products, of the two vectors of rows.
struct HalfSums {
  Ints pairs[2];
};

// All tokens times 16 columns of a step. kTokens == 1: the accumulators are alone[2], not results[n_tokens][16].
template <typename F, int half, int kTokens>
[[gnu::always_inline]] inline void multiply_half(const PanelCodes<F::kBits>& stored, const Scales (&w)[2],
                                                 const ActivationBlock* x, int n_tokens, HalfSums* waiting,
                                                 Floats (&alone)[2], float* results) {
  constexpr bool kOneScale = F::kScaleColumns == 32;
  constexpr int kFirst = 4 * half;  // group of 4 columns
  Bytes codes[2][8];
  decode_codes<F>(stored, 0, codes[0]);
  decode_codes<F>(stored, kLanes, codes[1]);
  for (int t = 0; t < n_tokens; ++t) {
    Bytes q[4];
    for (int i = 0; i < 4; ++i) q[i] = broadcast_4(x[t].q + 4 * (kFirst + i));
    HalfSums sums;
    for (int v = 0; v < 2; ++v) sums.pairs[v] = pairs_of_16_columns<(1 << F::kBits) - 1>(codes[v] + kFirst, q);
    if constexpr (kOneScale && half == 0) {
      waiting[t] = sums;
      continue;
    }
    const Floats x_scale = broadcast(x[t].scale);
    Ints half_sum = broadcast_int(kOneScale ? x[t].sum : x[t].leading_sum);
    if constexpr (!kOneScale && half == 1) half_sum = sub_ints(broadcast_int(x[t].sum), half_sum);
    const Floats scaled_sum = kOneScale ? broadcast(x[t].scaled_sum) : mul(x_scale, to_floats(half_sum));
    for (int v = 0; v < 2; ++v) {
      if constexpr (kOneScale) sums.pairs[v] = add_pairs(waiting[t].pairs[v], sums.pairs[v]);
      float* result = results + t * kPanelRows + v * kLanes;
      const Floats before = kTokens == 1 ? alone[v] : load_floats(result);
      const Floats acc = accumulate_half<F>(sum_of_pairs(sums.pairs[v]), w[v], kOneScale ? 0 : half, x_scale, half_sum,
                                            scaled_sum, before);
      if constexpr (kTokens == 1)
        alone[v] = acc;
      else
        store_floats(result, acc);
    }
  }
}

template <QuantType type, int kTokens>
void integer_product_by_halves(const PanelProduct& p, float* results) {
  using F = Format<type>;
  using Block = PanelBlock<type>;
  static_assert(kPanelRows == 2 * kLanes);
  constexpr int kSteps = sizeof(Block::codes) / sizeof(PanelCodes<F::kBits>);
  const int n_tokens = kTokens == kAnyTokens ? p.n_tokens : kTokens;
  const int64_t n_blocks = p.n_cols / (kSteps * kActivationBlock);
  const ActivationBlock* x = p.blocks;
  HalfSums waiting[kTokens == kAnyTokens ? kTokenBlock : kTokens];
  Floats alone[2] = {zero_floats(), zero_floats()};
  if constexpr (kTokens != 1)
    for (int i = 0; i < n_tokens * kPanelRows; i += kLanes) store_floats(results + i, zero_floats());

  for (int64_t i = 0; i < n_blocks; ++i, x += kSteps * p.block_stride) {
    const Block& block = reinterpret_cast<const Block*>(p.panel)[i];
    const typename F::Header header[2] = {F::header(block, 0), F::header(block, kLanes)};
    prefetch_scales(block, 0);
    for (int step = 0; step < kSteps; ++step) {
      Scales scales[2];
      for (int v = 0; v < 2; ++v) {
        F::scales(block, header[v], step, v * kLanes, scales[v]);
        prefetch_codes(block, step, v * kLanes);
      }
      const ActivationBlock* x_step = x + step * p.block_stride;
      multiply_half<F, 0, kTokens>(block.codes[step], scales, x_step, n_tokens, waiting, alone, results);
      multiply_half<F, 1, kTokens>(block.codes[step], scales, x_step, n_tokens, waiting, alone, results);
    }
  }
  if constexpr (kTokens == 1)
    for (int v = 0; v < 2; ++v) store_floats(results + v * kLanes, alone[v]);
}
