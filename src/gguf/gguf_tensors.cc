// The tensor directory: names, shapes, types, and where the data lies.
#include <algorithm>
#include <limits>
#include <unordered_set>

#include "base/utf8.h"
#include "gguf/gguf_part.h"

namespace spate {

namespace {

constexpr size_t kMaxNameBytes = 64;  // the specification's limit

class TensorParser {
 public:
  explicit TensorParser(GgufCursor& cursor) : cursor_(cursor) {}

  // Leaves `data` empty and `offset` relative to the start of the data section, which is known when all are parsed.
  Result<GgufTensor> parse_entry(uint64_t index, uint64_t n_tensors, uint64_t alignment) {
    cursor_.set_subject(fmt::format("tensor entry {} of {}", index + 1, n_tensors));
    SPATE_TRY(const std::string_view name, take_name());
    cursor_.set_subject("tensor " + quote(name));
    GgufTensor tensor;
    tensor.name = name;
    SPATE_TRY_VOID(take_dims(tensor));
    uint64_t at = cursor_.offset();
    SPATE_TRY(const uint32_t type_id, cursor_.take<uint32_t>("its type"));
    const QuantTraits* traits = find_quant_traits(type_id);
    if (traits == nullptr)
      return cursor_.bad(at,
                         fmt::format("type id {} is unknown: the file is damaged, or newer than this spate", type_id));
    tensor.type = traits->type;
    if (tensor.dims[0] % traits->block_elems != 0)
      return cursor_.bad(at, fmt::format("rows of {} elements are no multiple of {}'s {}", tensor.dims[0], traits->name,
                                         traits->block_elems));
    at = cursor_.offset();
    SPATE_TRY(tensor.offset, cursor_.take<uint64_t>("its offset"));
    if (tensor.offset % alignment != 0)
      return cursor_.bad(at, fmt::format("offset {} is no multiple of the alignment, {}", tensor.offset, alignment));
    return tensor;
  }

 private:
  Result<std::string_view> take_name() {
    const uint64_t at = cursor_.offset();
    SPATE_TRY(const std::string_view name, cursor_.take_string("its name"));
    if (name.empty()) return cursor_.bad(at, "its name is empty");
    if (name.size() > kMaxNameBytes)
      return cursor_.bad(
          at, fmt::format("its name {} has {} bytes; at most {} are allowed", quote(name), name.size(), kMaxNameBytes));
    if (!is_valid_utf8(name)) return cursor_.bad(at, fmt::format("its name {} is not valid UTF-8", quote(name)));
    if (!seen_.insert(name).second) return cursor_.bad(at, fmt::format("its name {} was there before", quote(name)));
    return name;
  }

  Result<void> take_dims(GgufTensor& tensor) {
    uint64_t at = cursor_.offset();
    SPATE_TRY(const uint32_t n_dims, cursor_.take<uint32_t>("its number of dimensions"));
    if (n_dims < 1 || n_dims > tensor.dims.size())
      return cursor_.bad(at, fmt::format("{} dimensions; it must have 1 to {}", n_dims, tensor.dims.size()));
    tensor.n_dims = static_cast<int>(n_dims);
    int64_t n_elems = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
      at = cursor_.offset();
      SPATE_TRY(const uint64_t dim, cursor_.take<uint64_t>("its dimensions"));
      if (dim == 0) return cursor_.bad(at, fmt::format("dimension {} is 0", i));
      if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          __builtin_mul_overflow(n_elems, static_cast<int64_t>(dim), &n_elems))
        return cursor_.bad(at, fmt::format("dimension {}, {}, makes more elements than 63 bits can count", i, dim));
      tensor.dims[i] = static_cast<int64_t>(dim);
    }
    return {};
  }

  GgufCursor& cursor_;
  std::unordered_set<std::string_view> seen_;  // views into the mapping
};

// Turns the relative offset into one from the start of the file, and binds the data. data_begin <= bytes.size().
Result<void> bind_data(GgufTensor& tensor, const MappedFile& file, uint64_t data_begin) {
  const uint64_t available = file.bytes().size() - data_begin;
  const QuantTraits& traits = quant_traits(tensor.type);
  const std::string subject = "tensor " + quote(tensor.name);
  uint64_t n_bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(tensor.n_elems() / traits.block_elems),
                             static_cast<uint64_t>(traits.block_bytes), &n_bytes))
    return Error::bad_file(file.path(), fmt::format("{}: its size overflows 64 bits", subject));
  if (tensor.offset > available)
    return Error::bad_file(file.path(), fmt::format("{}: its data starts {} bytes past the end of the file ({} bytes); "
                                                    "the file is damaged or incomplete",
                                                    subject, tensor.offset - available, file.bytes().size()));
  if (n_bytes > available - tensor.offset)
    return Error::bad_file(
        file.path(), fmt::format("{}: its data, {} bytes at byte {}, ends {} bytes past the end of "
                                 "the file; the file is damaged or incomplete",
                                 subject, n_bytes, data_begin + tensor.offset, n_bytes - (available - tensor.offset)));
  tensor.offset += data_begin;
  tensor.data = file.bytes().subspan(tensor.offset, n_bytes);
  return {};
}

Result<void> check_overlap(const std::vector<GgufTensor>& tensors, const MappedFile& file) {
  std::vector<const GgufTensor*> by_offset;
  by_offset.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) by_offset.push_back(&tensor);
  // The directory's order breaks ties, so that the message does not depend on the sort.
  std::ranges::stable_sort(by_offset, {}, [](const GgufTensor* tensor) { return tensor->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensor &before = *by_offset[i - 1], &tensor = *by_offset[i];
    if (before.offset + before.data.size() > tensor.offset)
      return Error::bad_file(file.path(), fmt::format("tensor {}: its data (at byte {}) overlaps that of tensor {}",
                                                      quote(tensor.name), tensor.offset, quote(before.name)));
  }
  return {};
}

}  // namespace

Result<std::vector<GgufTensor>> parse_tensors(GgufCursor& cursor, const MappedFile& file, uint64_t n_tensors,
                                              uint64_t alignment) {
  std::vector<GgufTensor> tensors;
  TensorParser parser(cursor);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    SPATE_TRY(GgufTensor tensor, parser.parse_entry(i, n_tensors, alignment));
    tensors.push_back(std::move(tensor));
  }
  // A vocabulary alone may end without the padding before its (absent) data.
  if (tensors.empty()) return tensors;
  const uint64_t data_begin = (cursor.offset() + alignment - 1) / alignment * alignment;
  if (data_begin > file.bytes().size())
    return Error::bad_file(file.path(), fmt::format("tensor {}: the file ends (at byte {}) before the data of the "
                                                    "tensors; it is incomplete, fetch it again",
                                                    quote(tensors[0].name), file.bytes().size()));
  for (GgufTensor& tensor : tensors) SPATE_TRY_VOID(bind_data(tensor, file, data_begin));
  SPATE_TRY_VOID(check_overlap(tensors, file));
  return tensors;
}

}  // namespace spate
