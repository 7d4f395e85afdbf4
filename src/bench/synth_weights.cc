#include "bench/synth_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/qblocks.h"

namespace spate {

namespace {

// Large enough that what is cut from it repeats seldom, small enough to stay in a cache while it is written out.
constexpr size_t kPoolBytes = size_t{8} << 20;
constexpr int64_t kProbeBlocks = 4096;  // decoded to learn the deviation of a format's codes

// Scales are in the upper half of their range (as encoders leave them), so that none is 0; those that have a sign get a
// random one, which takes away the mean of codes about an off-centre zero. A minimum is the mean code times its scale.
uint16_t signed_scale(float d, SplitMix& random) {
  return f32_to_f16(random.next() % 2 == 0 ? d : -d);
}

KScales equal_scales_and_minimums(SplitMix& random) {
  uint8_t scales[8];
  for (uint8_t& scale : scales) scale = static_cast<uint8_t>(32 + random.below(32));
  return KScales::from(scales, scales);
}

template <QuantType type>
void set_scales(Qblock<type>& block, float d, SplitMix& random) {
  if constexpr (type == QuantType::kF32) {
    block.value = d * random.symmetric();
  } else if constexpr (type == QuantType::kF16) {
    block.value = f32_to_f16(d * random.symmetric());
  } else if constexpr (type == QuantType::kBF16) {
    block.value = f32_to_bf16(d * random.symmetric());
  } else if constexpr (type == QuantType::kQ4_1 || type == QuantType::kQ5_1) {
    block.d = f32_to_f16(d);
    block.m = f32_to_f16(type == QuantType::kQ4_1 ? -7.5f * d : -15.5f * d);
  } else if constexpr (type == QuantType::kQ4_K || type == QuantType::kQ5_K) {
    block.scales = equal_scales_and_minimums(random);
    block.d = f32_to_f16(d);
    block.dmin = f32_to_f16(type == QuantType::kQ4_K ? 7.5f * d : 15.5f * d);
  } else if constexpr (type == QuantType::kQ2_K) {
    for (uint8_t& scale : block.scales) scale = static_cast<uint8_t>(0x11 * (8 + random.below(8)));
    block.d = f32_to_f16(d);
    block.dmin = f32_to_f16(1.5f * d);
  } else if constexpr (type == QuantType::kQ3_K || type == QuantType::kIQ4_XS) {
    for (int s = 0; s < (type == QuantType::kQ3_K ? 16 : 8); ++s)
      block.set_scale_code(s, static_cast<int>(48 + random.below(16)));
    block.d = signed_scale(d, random);
  } else if constexpr (type == QuantType::kQ6_K) {
    for (int8_t& scale : block.scales) scale = static_cast<int8_t>(32 + random.below(32));
    block.d = signed_scale(d, random);
  } else {
    block.d = signed_scale(d, random);
  }
}

template <QuantType type>
void fill_blocks(std::span<std::byte> out, float d, SplitMix& random) {
  Qblock<type> block;
  for (size_t at = 0; at < out.size(); at += sizeof block) {
    auto* bytes = reinterpret_cast<unsigned char*>(&block);
    for (size_t i = 0; i < sizeof block; i += sizeof(uint64_t)) {
      const uint64_t bits = random.next();
      std::memcpy(bytes + i, &bits, std::min(sizeof bits, sizeof block - i));
    }
    set_scales(block, d, random);
    std::memcpy(&out[at], &block, sizeof block);
  }
}

void fill(QuantType type, std::span<std::byte> out, float d, SplitMix& random) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return fill_blocks<QuantType::enumerator>(out, d, random);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  SPATE_CHECK(false, "no random weights of type {}", quant_name(type));
}

// The deviation of what a type decodes to at a scale of 1.
float unit_deviation(QuantType type, SplitMix& random) {
  const QuantTraits& traits = quant_traits(type);
  std::vector<std::byte> blocks(static_cast<size_t>(kProbeBlocks * traits.block_bytes));
  fill(type, blocks, 1, random);
  std::vector<float> values(static_cast<size_t>(kProbeBlocks * traits.block_elems));
  traits.decode(blocks.data(), kProbeBlocks, values.data());
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return static_cast<float>(std::sqrt(squares / static_cast<double>(values.size())));
}

}  // namespace

QblockPool::QblockPool(QuantType type, float deviation, uint64_t seed) : type_(type), deviation_(deviation) {
  SplitMix random(seed);
  const bool is_float = quant_traits(type).block_elems == 1;
  const float d = is_float ? deviation : deviation / unit_deviation(type, random);
  const size_t block_bytes = static_cast<size_t>(quant_traits(type).block_bytes);
  bytes_.resize(kPoolBytes / block_bytes * block_bytes);
  fill(type, bytes_, d, random);
}

Result<void> QblockPool::stream(uint64_t n_bytes, SplitMix& random,
                                const std::function<Result<void>(std::span<const std::byte>)>& take) const {
  const auto block_bytes = static_cast<uint64_t>(quant_traits(type_).block_bytes);
  SPATE_CHECK(n_bytes % block_bytes == 0, "{} bytes of {}", n_bytes, quant_name(type_));
  while (n_bytes > 0) {
    const uint64_t begin = random.below(bytes_.size() / block_bytes) * block_bytes;
    const uint64_t piece = std::min(n_bytes, bytes_.size() - begin);
    SPATE_TRY_VOID(take(std::span(bytes_).subspan(begin, piece)));
    n_bytes -= piece;
  }
  return {};
}

}  // namespace spate
