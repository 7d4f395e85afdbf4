// The kernel of each type in types.def: panel_product<type>, which the unit has defined. Included inside the anonymous
// namespace of a kernel translation unit, last.

inline PanelKernel kernel_for(QuantType type) {
  switch (type) {
#define SPATE_QUANT_TYPE(enumerator, id, block_elems, block_bytes, header) \
  case QuantType::enumerator:                                              \
    return panel_product<QuantType::enumerator>;
#define SPATE_FOREIGN_TYPE(name, id, block_elems, block_bytes)
#include "quant/types.def"
  }
  return nullptr;
}
