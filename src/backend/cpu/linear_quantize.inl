// Activations to int8 blocks (the arithmetic: panel_layout.h, ActivationBlock). Plain loops, which the compiler turns
// into the instruction set's vectors; the result does not depend on how. Included inside the anonymous namespace of a
// kernel translation unit.

inline void quantize_block(const float* x, ActivationBlock& out) {
  // The bits of magnitudes order like the magnitudes themselves, NaNs above everything.
  int32_t largest = 0;
  for (int i = 0; i < kActivationBlock; ++i) {
    int32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  constexpr int32_t kInfinityBits = 0x7f800000, kSmallestBits = (127 - 100) << 23;
  float amax, inverse;
  __builtin_memcpy(&amax, &largest, sizeof amax);
  if (largest >= kInfinityBits || largest < kSmallestBits) {
    for (int8_t& q : out.q) q = 0;
    out.sum = out.half_sums[0] = out.half_sums[1] = 0;
    out.scale = largest < kSmallestBits ? 0.0f : __builtin_nanf("");
    out.scaled_sum = out.scale;
    return;
  }
  inverse = 127.0f / amax;
  // Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits of the sum.
  constexpr float kShift = 0x1.8p23f;
  int32_t leading = 0, trailing = 0;
  int32_t codes[kActivationBlock];
  for (int i = 0; i < kActivationBlock; ++i) {
    const float shifted = x[i] * inverse + kShift;
    __builtin_memcpy(&codes[i], &shifted, sizeof shifted);
    codes[i] -= 0x4b400000;
  }
  for (int i = 0; i < 16; ++i) leading += codes[i];
  for (int i = 16; i < 32; ++i) trailing += codes[i];
  for (int i = 0; i < kActivationBlock; ++i) out.q[i] = static_cast<int8_t>(codes[i]);
  out.scale = amax / 127.0f;
  out.sum = leading + trailing;
  out.half_sums[0] = static_cast<int16_t>(leading);
  out.half_sums[1] = static_cast<int16_t>(trailing);
  out.scaled_sum = out.scale * static_cast<float>(out.sum);
}

inline void quantize(const float* x, int64_t n_blocks, ActivationBlock* out, int64_t out_stride) {
  for (int64_t i = 0; i < n_blocks; ++i) quantize_block(x + i * kActivationBlock, out[i * out_stride]);
}
