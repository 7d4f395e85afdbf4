// Puts GGUF bytes together piece by piece, well-formed or not: what a test of the reader needs and GgufWriter, which
// writes valid files only, cannot give.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace spate::testing {

class GgufBuilder {
 public:
  // One little-endian scalar.
  template <typename T>
  GgufBuilder& put(T value) {
    return bytes({reinterpret_cast<const char*>(&value), sizeof value});
  }
  GgufBuilder& bytes(std::string_view bytes);  // as they are
  GgufBuilder& string(std::string_view text);  // a u64 length and the bytes
  GgufBuilder& header(uint64_t n_tensors, uint64_t n_entries, uint32_t version = 3);
  GgufBuilder& key(std::string_view key, uint32_t value_type);  // the value is to follow
  GgufBuilder& array(uint32_t element_type, uint64_t size);     // the elements are to follow
  GgufBuilder& tensor(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type, uint64_t offset);
  GgufBuilder& pad(size_t alignment = 32);
  GgufBuilder& data(size_t n_bytes);  // of some pattern

  const std::string& text() const { return bytes_; }
  // Where each piece began.
  const std::vector<size_t>& boundaries() const { return boundaries_; }

 private:
  std::string bytes_;
  std::vector<size_t> boundaries_;
};

void write_file(const std::string& path, std::string_view bytes);

}  // namespace spate::testing
