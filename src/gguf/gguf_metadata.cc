// The metadata section: keys and values.
#include <unordered_set>

#include "base/utf8.h"
#include "gguf/gguf_part.h"

namespace spate {

namespace {

constexpr size_t kMaxKeyBytes = 65535;  // the specification's limit

class MetadataParser {
 public:
  explicit MetadataParser(GgufCursor& cursor) : cursor_(cursor) {}

  Result<void> parse_entry(uint64_t index, uint64_t n_entries, GgufMetadata& metadata) {
    cursor_.set_subject(fmt::format("metadata entry {} of {}", index + 1, n_entries));
    SPATE_TRY(const std::string_view key, take_key());
    cursor_.set_subject("key " + quote(key));
    SPATE_TRY(const GgufType type, take_type());
    SPATE_TRY(GgufValue value, take_value(type));
    metadata.entries.emplace_back(key, std::move(value));
    metadata.types.push_back(type);
    return {};
  }

 private:
  Result<std::string_view> take_key() {
    const uint64_t at = cursor_.offset();
    SPATE_TRY(const std::string_view key, cursor_.take_string("its key"));
    if (key.empty()) return cursor_.bad(at, "its key is empty");
    if (key.size() > kMaxKeyBytes)
      return cursor_.bad(at, fmt::format("its key has {} bytes; at most {} are allowed", key.size(), kMaxKeyBytes));
    if (!is_valid_utf8(key)) return cursor_.bad(at, fmt::format("its key {} is not valid UTF-8", quote(key)));
    if (!seen_.insert(key).second) return cursor_.bad(at, fmt::format("its key {} was there before", quote(key)));
    return key;
  }

  Result<GgufType> take_type() {
    const uint64_t at = cursor_.offset();
    SPATE_TRY(const uint32_t id, cursor_.take<uint32_t>("its value's type"));
    if (id >= kGgufTypes) return cursor_.bad(at, fmt::format("the value's type id {} does not exist", id));
    return static_cast<GgufType>(id);
  }

  Result<GgufValue> take_value(GgufType type) {
    if (type == GgufType::kArray) return take_array();
    if (type == GgufType::kString) {
      SPATE_TRY(const std::string_view text, cursor_.take_string("its value"));
      return GgufValue(text);
    }
    SPATE_TRY_VOID(check_bools(type, 1));
    return with_scalar_type(type, [&](auto zero) -> Result<GgufValue> {
      using T = decltype(zero);
      using Wide = std::conditional_t<std::is_same_v<T, bool>, bool,
                                      std::conditional_t<std::is_floating_point_v<T>, double,
                                                         std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>>;
      SPATE_TRY(const T value, cursor_.take<T>("its value"));
      return GgufValue(static_cast<Wide>(value));
    });
  }

  Result<GgufValue> take_array() {
    const uint64_t at = cursor_.offset();
    SPATE_TRY(const GgufType type, take_type());
    // The format allows nesting without a limit; no model uses it.
    if (type == GgufType::kArray) return cursor_.bad(at, "the value is an array of arrays, which spate does not read");
    GgufArray array;
    array.element_type = type;
    SPATE_TRY(array.size, cursor_.take<uint64_t>("its array's length"));
    array.data = cursor_.here();
    const uint64_t elem_bytes = type == GgufType::kString ? sizeof(uint64_t) : scalar_bytes(type);  // at least
    if (array.size > cursor_.remaining() / elem_bytes)
      return cursor_.bad(at,
                         fmt::format("an array of {} {} cannot fit in the {} bytes that follow; the file is damaged "
                                     "or incomplete",
                                     array.size, gguf_type_name(type), cursor_.remaining()));
    if (type == GgufType::kString) {
      SPATE_TRY_VOID(count_visited(array.size));
      array.strings.reserve(array.size);
      for (uint64_t i = 0; i < array.size; ++i) {
        SPATE_TRY(const std::string_view text, cursor_.take_string("a string of its array"));
        array.strings.push_back(text);
      }
    } else {
      SPATE_TRY_VOID(check_bools(type, array.size));
      SPATE_TRY_VOID(cursor_.skip(array.size * elem_bytes, "its array"));
    }
    return GgufValue(std::move(array));
  }

  // That the next n elements, if bools, are 0 or 1. Fewer may be left in the file; reading them reports that.
  Result<void> check_bools(GgufType type, uint64_t n) {
    if (type != GgufType::kBool) return {};
    SPATE_TRY_VOID(count_visited(n));
    for (uint64_t i = 0; i < n && i < cursor_.remaining(); ++i)
      if (const auto byte = std::to_integer<int>(cursor_.here()[i]); byte > 1)
        return cursor_.bad(cursor_.offset() + i, fmt::format("a bool is {}; it must be 0 or 1", byte));
    return {};
  }

  Result<void> count_visited(uint64_t n) {
    if (n > kMaxVisitedElems - n_visited_)
      return cursor_.bad(cursor_.offset(),
                         fmt::format("more than {} strings and bools in the file's metadata", kMaxVisitedElems));
    n_visited_ += n;
    return {};
  }

  GgufCursor& cursor_;
  uint64_t n_visited_ = 0;
  std::unordered_set<std::string_view> seen_;  // views into the mapping
};

}  // namespace

Result<GgufMetadata> parse_metadata(GgufCursor& cursor, uint64_t n_entries) {
  GgufMetadata metadata;
  MetadataParser parser(cursor);
  for (uint64_t i = 0; i < n_entries; ++i) SPATE_TRY_VOID(parser.parse_entry(i, n_entries, metadata));
  return metadata;
}

}  // namespace spate
