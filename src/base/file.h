// Whole files: read one, or write one so that a reader never sees half of it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace spate {

// Beyond this nothing that is read as a whole makes sense: a device that never ends is found out here, and not by the
// memory that it fills.
inline constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

// The file's bytes; "-" reads standard input to its end. Error kIo, also for more than max_bytes.
Result<std::string> read_file(const std::string& path, uint64_t max_bytes = kMaxTextBytes);
// As read_file(), of a regular file. Error kIo for anything else too: a folder, a FIFO or a device, which are neither
// waited for nor read.
Result<std::string> read_regular_file(const std::string& path, uint64_t max_bytes);

// Writes beside the target, flushes to the disk, then renames: the target is either as before or complete, a file that
// is replaced passes its permissions on, and a symbolic link stays one. Not committed: the temporary file is removed.
class AtomicFile {
 public:
  // Error kIo: the folder cannot be written, or the path is there and is no regular file (a rename would put a file in
  // the place of a device or a folder).
  static Result<AtomicFile> create(const std::string& path);
  // For its owner alone (mode 0600), whoever could read what was there.
  static Result<AtomicFile> create_private(const std::string& path);
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
  static Result<AtomicFile> create(const std::string& path, std::optional<unsigned> mode);
  AtomicFile(std::string path, std::string temporary, std::FILE* file)
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(file) {}

  std::string path_, temporary_;
  std::unique_ptr<std::FILE, Close> file_;  // null once committed
};

}  // namespace spate
