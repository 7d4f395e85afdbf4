// Products of F32, F16 and BF16 weights with float32 activations, and with them the definition of their results.
// Included inside the anonymous namespace of a kernel translation unit, after linear_integer.inl.
//
// For each row and token there are four float32 accumulators, from 0: column k goes to accumulator k % 4 by
// acc = fma(w, x, acc), k ascending; the result is (a0 + a1) + (a2 + a3).

template <QuantType type>
Floats load_weights(const PanelBlock<type>& column, int row) {
  if constexpr (type == QuantType::kF32)
    return load_floats(column.value + row);
  else if constexpr (type == QuantType::kF16)
    return load_f16(column.value + row);
  else
    return load_bf16(column.value + row);
}

// results[kTokens][16] of rows [row, row + kVectors * kLanes).
template <QuantType type, int kTokens, int kVectors>
void float_tile(const PanelProduct& p, const float* x, int row, float* results) {
  const auto* column = reinterpret_cast<const PanelBlock<type>*>(p.panel);
  Floats acc[kTokens][kVectors][4];
  for (auto& token : acc)
    for (auto& vector : token)
      for (Floats& a : vector) a = zero_floats();

  const auto add_column = [&](int64_t k, int a) {
    Floats w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = load_weights<type>(column[k], row + v * kLanes);
    for (int t = 0; t < kTokens; ++t) {
      const Floats x_k = broadcast(x[t * p.n_cols + k]);
      for (int v = 0; v < kVectors; ++v) acc[t][v][a] = fma(w[v], x_k, acc[t][v][a]);
    }
  };
  int64_t k = 0;
  for (; k + 4 <= p.n_cols; k += 4) {
    add_column(k, 0);
    add_column(k + 1, 1);
    add_column(k + 2, 2);
    add_column(k + 3, 3);
  }
  if (k < p.n_cols) add_column(k, 0);
  if (k + 1 < p.n_cols) add_column(k + 1, 1);
  if (k + 2 < p.n_cols) add_column(k + 2, 2);

  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) {
      const Floats* a = acc[t][v];
      store_floats(results + t * kPanelRows + row + v * kLanes, add(add(a[0], a[1]), add(a[2], a[3])));
    }
}

template <QuantType type>
void float_panel_product(const PanelProduct& p) {
  alignas(64) float results[kFloatTokens * kPanelRows];
  int t = 0;
  for (; t + kFloatTokens <= p.n_tokens; t += kFloatTokens) {
    for (int row = 0; row < kPanelRows; row += kLanes)
      float_tile<type, kFloatTokens, 1>(p, p.x + t * p.n_cols, row, results);
    for (int i = 0; i < kFloatTokens; ++i) finish_token(p, t + i, results + i * kPanelRows);
  }
  // A token alone keeps as many sums in flight by taking all 16 rows at once.
  for (; t < p.n_tokens; ++t) {
    float_tile<type, 1, kPanelRows / kLanes>(p, p.x + t * p.n_cols, 0, results);
    finish_token(p, t, results);
  }
}

template <QuantType type>
void panel_product(const PanelProduct& p) {
  if constexpr (kIsFloat<type>)
    float_panel_product<type>(p);
  else
    integer_panel_product<type>(p);
}
