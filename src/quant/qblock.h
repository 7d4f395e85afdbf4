// Qblock<type>: one block of a quantised row as it lies in a GGUF file, and its scalar decode. Each format specialises
// it in a header of its own (quant/q4_k.h); each row of types.def names its own.
//
// A specialisation has exactly the format's fields in the file's order (little-endian, no padding), kElems, and
// - decode(out[kElems]), which performs the format's own float32 operations in its order: other code that wants the
// same
//   bits must round where it rounds;
// - encode(in[kElems]), which sets every field so that the decoded values are close to `in` (finite) by their sum of
//   squared differences; never further away than the plain recipe of spreading the codes over the range of the values.
//   Values too large for the format come out as the largest that it holds.
#pragma once

#include <cstdint>

#include "quant/half.h"
#include "quant/quant_type.h"

namespace spate {

template <QuantType>
struct Qblock;

inline constexpr int kSuperblock = 256;  // elements of a K-quant's qblock
inline constexpr int kSubblock = 32;     // elements of the other types' qblocks

}  // namespace spate
