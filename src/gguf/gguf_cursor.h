// Reads the structure of a GGUF file front to back; no read leaves the file, and a read that would is an Error that
// says what was being read, of which key or tensor, and where.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/mapped_file.h"
#include "gguf/gguf_value.h"

namespace spate {

class GgufCursor {
 public:
  // file outlives the cursor.
  explicit GgufCursor(const MappedFile& file) : file_(file) {}

  uint64_t offset() const { return offset_; }  // of the next byte, from the start of the file
  uint64_t remaining() const { return file_.bytes().size() - offset_; }
  const std::byte* here() const { return file_.bytes().data() + offset_; }

  // What the reads that follow belong to, for messages: "key 'general.name'".
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  // Each `what` completes "the file ends inside ...".
  template <typename T>
  Result<T> take(std::string_view what) {
    if (remaining() < sizeof(T)) return ends_inside(what);
    const T value = load_scalar<T>(here());
    offset_ += sizeof(T);
    return value;
  }
  // A u64 length and that many bytes, a view into the mapping.
  Result<std::string_view> take_string(std::string_view what);
  Result<void> skip(uint64_t n_bytes, std::string_view what);

  // "path: subject: what (at byte offset)", kBadFile.
  Error bad(uint64_t offset, std::string_view what) const;

 private:
  Error ends_inside(std::string_view what) const;

  const MappedFile& file_;
  uint64_t offset_ = 0;
  std::string subject_ = "header";
};

}  // namespace spate
