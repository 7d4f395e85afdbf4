#include "quant/quant_type.h"

#include <cstring>

#include "base/check.h"
#include "quant/qblocks.h"

namespace spate {

namespace {

template <QuantType type>
void decode_blocks(const std::byte* src, int64_t n_blocks, float* out) {
  Qblock<type> block;  // a copy: src may be unaligned
  for (int64_t i = 0; i < n_blocks; ++i) {
    std::memcpy(&block, src + i * sizeof block, sizeof block);
    block.decode(out + i * block.kElems);
  }
}

template <QuantType type>
void encode_blocks(const float* in, int64_t n_blocks, std::byte* dst) {
  Qblock<type> block;  // a copy: dst may be unaligned
  for (int64_t i = 0; i < n_blocks; ++i) {
    block.encode(in + i * block.kElems);
    std::memcpy(dst + i * sizeof block, &block, sizeof block);
  }
}

constexpr QuantTraits kTraits[] = {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header)                 \
  QuantTraits{QuantType::enumerator, std::string_view(#enumerator).substr(1), block_elems, \
              block_bytes,           decode_blocks<QuantType::enumerator>,    encode_blocks<QuantType::enumerator>},
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes) \
  QuantTraits{QuantType(id), #name, block_elems, block_bytes, nullptr, nullptr},
#include "quant/types.def"
};

#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header)          \
  static_assert(Qblock<QuantType::enumerator>::kElems == block_elems, #enumerator); \
  static_assert(sizeof(Qblock<QuantType::enumerator>) == block_bytes, #enumerator);
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"

constexpr QuantType kRunnable[] = {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) QuantType::enumerator,
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

const QuantTraits* find_quant_traits(uint32_t id) {
  for (const QuantTraits& traits : kTraits)
    if (static_cast<uint32_t>(traits.type) == id) return &traits;
  return nullptr;
}

const QuantTraits& quant_traits(QuantType type) {
  const QuantTraits* traits = find_quant_traits(static_cast<uint32_t>(type));
  SPATE_CHECK(traits != nullptr, "tensor type {}", static_cast<uint32_t>(type));
  return *traits;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

std::optional<QuantType> quant_type_from_name(std::string_view name) {
  for (QuantType type : kRunnable)
    if (equal_ignoring_case(quant_name(type), name)) return type;
  return std::nullopt;
}

std::span<const QuantType> all_quant_types() {
  return kRunnable;
}

int64_t quant_bytes(QuantType type, int64_t n_elems) {
  const QuantTraits& traits = quant_traits(type);
  SPATE_CHECK(n_elems % traits.block_elems == 0, "{} elements of {}", n_elems, traits.name);
  return n_elems / traits.block_elems * traits.block_bytes;
}

}  // namespace spate
