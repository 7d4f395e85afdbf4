#include "gguf/gguf_file.h"

#include <cmath>

#include "base/utf8.h"
#include "gguf/gguf_part.h"
#include "gguf/gguf_split.h"

namespace spate {

namespace {

Error wrong_type(const std::string& path, std::string_view key, const GgufValue& value, std::string_view wanted) {
  return Error::bad_file(path, fmt::format("key {} is {}; it must be {}", quote(key), describe(value), wanted));
}

}  // namespace

Result<GgufFile> GgufFile::open(const std::string& path) {
  SPATE_TRY(GgufPart named, read_gguf_part(path));
  SPATE_TRY(std::vector<GgufPart> parts, read_all_parts(std::move(named)));
  GgufFile file;
  file.version_ = parts[0].version;
  file.metadata_ = std::move(parts[0].metadata.entries);
  file.metadata_types_ = std::move(parts[0].metadata.types);
  for (size_t i = 0; i < file.metadata_.size(); ++i) file.metadata_index_.emplace(file.metadata_[i].first, i);
  for (size_t index = 0; index < parts.size(); ++index) {
    GgufPart& part = parts[index];
    for (GgufTensor& tensor : part.tensors) {
      const auto [there, added] = file.tensor_index_.emplace(tensor.name, file.tensors_.size());
      if (!added)
        return Error::bad_file(part.file.path(),
                               fmt::format("tensor {} is also in '{}'", quote(tensor.name),
                                           file.files_[file.tensors_[there->second].file_index].path()));
      tensor.file_index = static_cast<int>(index);
      file.tensors_.push_back(std::move(tensor));
    }
    file.files_.push_back(std::move(part.file));
  }
  SPATE_TRY_VOID(file.check_intact());
  return file;
}

uint64_t GgufFile::total_bytes() const {
  uint64_t n_bytes = 0;
  for (const MappedFile& file : files_) n_bytes += file.bytes().size();
  return n_bytes;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto entry = metadata_index_.find(key);
  return entry == metadata_index_.end() ? nullptr : &metadata_[entry->second].second;
}

Result<std::optional<int64_t>> GgufFile::integer(std::string_view key, int64_t min, int64_t max) const {
  return integer_in_range(path(), key, find(key), min, max);
}

Result<std::optional<double>> GgufFile::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<double>();
  if (const auto* v = std::get_if<uint64_t>(value)) return std::optional(static_cast<double>(*v));
  if (const auto* v = std::get_if<int64_t>(value)) return std::optional(static_cast<double>(*v));
  if (const auto* v = std::get_if<double>(value); v != nullptr && std::isfinite(*v)) return std::optional(*v);
  return wrong_type(path(), key, *value, "a finite number");
}

Result<std::optional<bool>> GgufFile::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<bool>();
  if (const auto* v = std::get_if<bool>(value)) return std::optional(*v);
  return wrong_type(path(), key, *value, "a bool");
}

Result<std::optional<std::string_view>> GgufFile::string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::optional<std::string_view>();
  if (const auto* v = std::get_if<std::string_view>(value)) return std::optional(*v);
  return wrong_type(path(), key, *value, "a string");
}

Result<const GgufArray*> GgufFile::array(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return static_cast<const GgufArray*>(nullptr);
  if (const auto* v = std::get_if<GgufArray>(value)) return v;
  return wrong_type(path(), key, *value, "an array");
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto entry = tensor_index_.find(name);
  return entry == tensor_index_.end() ? nullptr : &tensors_[entry->second];
}

Result<void> GgufFile::check_intact() const {
  for (const MappedFile& file : files_) SPATE_TRY_VOID(file.check_intact());
  return {};
}

}  // namespace spate
