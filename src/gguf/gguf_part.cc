#include "gguf/gguf_part.h"

#include <bit>
#include <cstring>

#include "base/utf8.h"

namespace spate {

namespace {

constexpr int64_t kMaxAlignment = 1 << 20;

Error unsupported_file(const MappedFile& file, std::string_view what) {
  return Error::unsupported(fmt::format("{}: {}", file.path(), what));
}

// "GGUF", then a version that spate reads.
Result<uint32_t> parse_version(GgufCursor& cursor, const MappedFile& file) {
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() < 4)
    return Error::bad_file(file.path(), fmt::format("not a GGUF file: it has {} bytes", bytes.size()));
  const std::string_view magic(reinterpret_cast<const char*>(bytes.data()), 4);
  if (magic == "FUGG") return unsupported_file(file, "a big-endian GGUF file; spate reads little-endian ones");
  for (std::string_view old : {"lmgg", "fmgg", "tjgg", "algg"})
    if (magic == old) return unsupported_file(file, "a GGML file from before GGUF; convert it to GGUF version 3");
  if (magic != "GGUF")
    return Error::bad_file(file.path(), fmt::format("not a GGUF file: it starts with {}, not 'GGUF'", quote(magic)));
  SPATE_TRY_VOID(cursor.skip(4, "the magic number"));
  const uint64_t at = cursor.offset();
  SPATE_TRY(const uint32_t version, cursor.take<uint32_t>("the version"));
  if (version == 2 || version == 3) return version;
  if (version == 1) return unsupported_file(file, "GGUF version 1; convert it to version 3 (spate reads 2 and 3)");
  if (version != 0 && (version & 0xFFFF) == 0)  // a small number with its bytes the other way round
    return unsupported_file(file, "a big-endian GGUF file; spate reads little-endian ones");
  if (version == 0) return cursor.bad(at, "version 0 does not exist");
  return unsupported_file(file, fmt::format("GGUF version {}; spate reads 2 and 3", version));
}

// A count of entries, checked before anything is allocated for them.
Result<uint64_t> take_count(GgufCursor& cursor, std::string_view what, uint64_t min_entry_bytes, uint64_t max) {
  const uint64_t at = cursor.offset();
  SPATE_TRY(const uint64_t count, cursor.take<uint64_t>(fmt::format("the number of {}", what)));
  const uint64_t possible = cursor.remaining() / min_entry_bytes;
  if (count > possible)
    return cursor.bad(at, fmt::format("{} {} cannot fit in the {} bytes that follow; the file is damaged or incomplete",
                                      count, what, cursor.remaining()));
  if (count > max) return cursor.bad(at, fmt::format("{} {}; spate reads at most {}", count, what, max));
  return count;
}

Result<uint64_t> read_alignment(const GgufMetadata& metadata, std::string_view path) {
  constexpr std::string_view kKey = "general.alignment";
  const GgufValue* value = metadata.find(kKey);
  SPATE_TRY(const std::optional<int64_t> alignment, integer_in_range(path, kKey, value, 8, kMaxAlignment));
  if (!alignment) return kGgufDefaultAlignment;
  if (!std::has_single_bit(static_cast<uint64_t>(*alignment)))
    return Error::bad_file(path, fmt::format("key '{}' is {}; it must be a power of two", kKey, *alignment));
  return static_cast<uint64_t>(*alignment);
}

Result<void> parse(GgufPart& part) {
  GgufCursor cursor(part.file);
  SPATE_TRY(part.version, parse_version(cursor, part.file));
  SPATE_TRY(const uint64_t n_tensors, take_count(cursor, "tensors", kMinTensorBytes, kMaxTensors));
  SPATE_TRY(const uint64_t n_entries, take_count(cursor, "metadata entries", kMinMetadataBytes, kMaxMetadataEntries));
  SPATE_TRY(part.metadata, parse_metadata(cursor, n_entries));
  SPATE_TRY(const uint64_t alignment, read_alignment(part.metadata, part.file.path()));
  SPATE_TRY(part.tensors, parse_tensors(cursor, part.file, n_tensors, alignment));
  return {};
}

}  // namespace

const GgufValue* GgufMetadata::find(std::string_view key) const {
  for (const auto& [name, value] : entries)
    if (name == key) return &value;
  return nullptr;
}

Result<GgufPart> read_gguf_part(const std::string& path) {
  GgufPart part;
  SPATE_TRY(part.file, MappedFile::open(path));
  const Result<void> parsed = parse(part);
  // A file that shrank reads as zeros: what parsing made of them, error or not, is not the cause.
  SPATE_TRY_VOID(part.file.check_intact());
  if (!parsed) return parsed.error();
  return part;
}

}  // namespace spate
