// Whole files: read one, or write one so that a reader never sees half of it.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace spate {

// The file's bytes; "-" reads standard input to its end. Error kIo.
Result<std::string> read_file(const std::string& path);

// Writes beside the target, flushes to the disk, then renames: the target is either as before or complete, a file that
// is replaced passes its permissions on, and a symbolic link stays one. Not committed: the temporary file is removed.
class AtomicFile {
 public:
  // Error kIo: the folder cannot be written, or the path is there and is no regular file (a rename would put a file in
  // the place of a device or a folder).
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Result<void> write(const void* data, size_t n_bytes);
  Result<void> write(std::string_view text) { return write(text.data(), text.size()); }
  // Once, after the last write.
  Result<void> commit();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  AtomicFile(std::string path, std::string temporary, std::FILE* file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(file) {}

  std::string path_, temporary_;
  std::unique_ptr<std::FILE, Close> file_;  // null once committed
};

}  // namespace spate
