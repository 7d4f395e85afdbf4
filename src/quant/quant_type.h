// The tensor types of GGUF files and what is common to them: names, qblock sizes, scalar decode, encode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace spate {

// The value is the type's id in a GGUF file. Ids of types that spate only knows by name are also values of this enum,
// without an enumerator.
enum class QuantType : uint32_t {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) enumerator = id,
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
};

struct QuantTraits {
  QuantType type;
  std::string_view name;  // as the ecosystem writes it: "Q4_K"
  int block_elems;        // elements a qblock, along a row
  int block_bytes;        // bytes a qblock
  // Decodes n_blocks consecutive qblocks to out[n_blocks * block_elems]; null for a type that spate only knows by name.
  // src need not be aligned. The truth that every kernel is tested against, bit-exact to the format's definition in
  // float32.
  void (*decode)(const std::byte* src, int64_t n_blocks, float* out);
  // Encodes in[n_blocks * block_elems], finite, to n_blocks qblocks at dst, which need not be aligned; null where
  // decode is. The same input gives the same bits on every processor. Slow by intent: it searches (quant/fit.h).
  void (*encode)(const float* in, int64_t n_blocks, std::byte* dst);
};

// The traits of a type id read from a file; nullptr for an id the format does not define.
const QuantTraits* find_quant_traits(uint32_t id);

// The traits of a type that is known to exist.
const QuantTraits& quant_traits(QuantType type);

// By name, any case ("q4_k", "Q4_K"); only types that spate can run.
std::optional<QuantType> quant_type_from_name(std::string_view name);

inline std::string_view quant_name(QuantType type) {
  return quant_traits(type).name;
}

// How names of types and mixes compare. ASCII only.
bool equal_ignoring_case(std::string_view a, std::string_view b);

// Every type that spate can decode, in the order of types.def.
std::span<const QuantType> all_quant_types();

// Bytes of n_elems elements, a whole number of qblocks.
int64_t quant_bytes(QuantType type, int64_t n_elems);

}  // namespace spate
