// One file of a model, parsed and validated on its own. gguf_file.h joins the parts of a split model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "gguf/gguf_cursor.h"
#include "gguf/gguf_file.h"

namespace spate {

struct GgufMetadata {
  std::vector<std::pair<std::string, GgufValue>> entries;
  std::vector<GgufType> types;  // [entries], as the file has them

  const GgufValue* find(std::string_view key) const;  // by search: for the few keys that reading a file depends on
};

struct GgufPart {
  MappedFile file;
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // file_index 0
};

// Everything that can be validated about one file alone. Error kIo, kBadFile, kUnsupported.
Result<GgufPart> read_gguf_part(const std::string& path);

// The steps of it; the cursor stands at the first entry and, on success, behind the last.
Result<GgufMetadata> parse_metadata(GgufCursor& cursor, uint64_t n_entries);
Result<std::vector<GgufTensor>> parse_tensors(GgufCursor& cursor, const MappedFile& file, uint64_t n_tensors,
                                              uint64_t alignment);

// Bytes of the smallest possible entries: what a count must be able to fill.
inline constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;        // key of one byte, type, a u8
inline constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name of one byte, one dimension, type, offset

// Bounds on what is kept and visited for one file, whatever its size, so that a hostile one is refused at once; far
// above anything in use.
inline constexpr uint64_t kMaxMetadataEntries = 1 << 16;
inline constexpr uint64_t kMaxTensors = 1 << 17;
inline constexpr uint64_t kMaxVisitedElems = 1 << 24;  // strings and bools in arrays, which are looked at one by one

}  // namespace spate
