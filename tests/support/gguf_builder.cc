#include "support/gguf_builder.h"

#include <filesystem>
#include <fstream>

#include "base/check.h"

namespace spate::testing {

GgufBuilder& GgufBuilder::bytes(std::string_view bytes) {
  boundaries_.push_back(bytes_.size());
  bytes_ += bytes;
  return *this;
}

GgufBuilder& GgufBuilder::string(std::string_view text) {
  return put(static_cast<uint64_t>(text.size())).bytes(text);
}

GgufBuilder& GgufBuilder::header(uint64_t n_tensors, uint64_t n_entries, uint32_t version) {
  return bytes("GGUF").put(version).put(n_tensors).put(n_entries);
}

GgufBuilder& GgufBuilder::key(std::string_view key, uint32_t value_type) {
  return string(key).put(value_type);
}

GgufBuilder& GgufBuilder::array(uint32_t element_type, uint64_t size) {
  return put(element_type).put(size);
}

GgufBuilder& GgufBuilder::tensor(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type,
                                 uint64_t offset) {
  string(name).put(static_cast<uint32_t>(dims.size()));
  for (uint64_t dim : dims) put(dim);
  return put(type).put(offset);
}

GgufBuilder& GgufBuilder::pad(size_t alignment) {
  return bytes(std::string((alignment - bytes_.size() % alignment) % alignment, '\0'));
}

GgufBuilder& GgufBuilder::data(size_t n_bytes) {
  std::string pattern(n_bytes, '\0');
  for (size_t i = 0; i < n_bytes; ++i) pattern[i] = static_cast<char>(i * 37 + 1);
  return bytes(pattern);
}

void write_file(const std::string& path, std::string_view bytes) {
  // Removed, not cut to nothing: file systems that flush a file rewritten in place take milliseconds for each.
  std::filesystem::remove(path);
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  SPATE_CHECK(out.good(), "cannot write {}", path);
}

}  // namespace spate::testing
