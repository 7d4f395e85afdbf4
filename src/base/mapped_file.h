// A read-only memory mapping of a file that survives the file shrinking beneath it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/error.h"

namespace spate {

// Reading a page of a mapping that lies past the end of its file (somebody truncated it, or the disk failed) raises
// SIGBUS. The first MappedFile installs a handler that marks any live MappedFile holding the faulting page damaged and
// maps zeros over the page; a SIGBUS anywhere else goes on to the handler that was there before. Whoever reads the
// bytes asks damaged() or check_intact() before trusting what they made of them.
class MappedFile {
 public:
  // Maps the whole file. Error kIo: cannot be opened, is no regular file, or cannot be mapped. An empty file maps to an
  // empty span.
  static Result<MappedFile> open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
  const std::string& path() const { return path_; }

  // True once any page was found missing: bytes read from this mapping may be zeros that the file never held. A load of
  // one atomic.
  bool damaged() const;
  // Error kIo when damaged(), or when the file is now shorter than it was when mapped (a system call): a file cut
  // within its last page raises no signal, it reads as zeros.
  Result<void> check_intact() const;

  // Hints to the kernel over [offset, offset + length): will be read soon, in order; or will not be needed (drops the
  // resident pages; they fault in again if read).
  void will_need(size_t offset, size_t length) const;
  void release(size_t offset, size_t length) const;

 private:
  void close();

  std::string path_;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  int fd_ = -1;      // kept to ask the file's size
  int region_ = -1;  // index of this mapping among those that the handler guards
};

}  // namespace spate
