#include "base/file.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace spate {

namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

// Up to the file's end, or to the first byte beyond max_bytes.
Result<std::string> read_all(std::FILE* file, const std::string& name, uint64_t max_bytes) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (text.size() <= max_bytes) {
    const size_t n = std::fread(buffer.data(), 1, buffer.size(), file);
    if (n == 0) break;
    text.append(buffer.data(), n);
  }
  if (std::ferror(file)) return Error::io(name, std::strerror(errno));
  return text;
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  if (path == "-") return read_all(stdin, "standard input", UINT64_MAX);
  const OpenFile file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return Error::io(path, std::strerror(errno));
  return read_all(file.get(), path, UINT64_MAX);
}

Result<std::string> read_regular_file(const std::string& path, uint64_t max_bytes) {
  // O_NONBLOCK: a FIFO that nobody writes to would hang here, before it could be seen to be one.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return Error::io(path, std::strerror(errno));
  const OpenFile file(fdopen(fd, "rb"));
  if (file == nullptr) {
    const int error = errno;
    ::close(fd);
    return Error::io(path, std::strerror(error));
  }
  struct stat status = {};
  if (fstat(fd, &status) != 0) return Error::io(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return Error::io(path, "is not a regular file");
  const Error too_large =
      Error::io(path, fmt::format("has more than {} MiB, too much for what it should hold", max_bytes >> 20));
  if (static_cast<uint64_t>(status.st_size) > max_bytes) return too_large;
  SPATE_TRY(std::string text, read_all(file.get(), path, max_bytes));
  if (text.size() > max_bytes) return too_large;  // it grew, or does not tell its size
  return text;
}

namespace {

// Where the symbolic links at `path` lead, also when nothing is there yet.
Result<std::string> follow_links(const std::string& path) {
  constexpr int kMaxLinks = 40;  // as many as the kernel follows
  std::filesystem::path target = path;
  std::error_code error;
  for (int i = 0; std::filesystem::is_symlink(target, error); ++i) {
    if (i == kMaxLinks) return Error::io(path, std::strerror(ELOOP));
    const std::filesystem::path next = std::filesystem::read_symlink(target, error);
    if (error) return Error::io(path, error.message());
    target = target.parent_path() / next;  // next alone where that is absolute
  }
  return target.string();
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  return create(path, std::nullopt);
}

Result<AtomicFile> AtomicFile::create_private(const std::string& path) {
  return create(path, 0600);
}

// mode: none for that of the file that is replaced, or what the umask leaves of a new one.
Result<AtomicFile> AtomicFile::create(const std::string& path, std::optional<unsigned> mode) {
  struct stat status = {};
  const bool exists = stat(path.c_str(), &status) == 0;
  if (exists && !S_ISREG(status.st_mode)) return Error::io(path, "is not a regular file; it cannot be replaced");
  SPATE_TRY(const std::string target, follow_links(path));
  std::string temporary = target + ".XXXXXX";
  const int fd = mkstemp(temporary.data());
  if (fd < 0) return Error::io(path, fmt::format("cannot be written: {}", std::strerror(errno)));
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, mode.value_or(exists ? status.st_mode & 0777 : 0666 & ~mask));
  std::FILE* file = fdopen(fd, "wb");
  if (file == nullptr) {
    const int error = errno;
    ::close(fd);
    unlink(temporary.c_str());
    return Error::io(path, std::strerror(error));
  }
  return AtomicFile(target, temporary, file);
}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) return;
  file_.reset();
  unlink(temporary_.c_str());
}

Result<void> AtomicFile::write(const void* data, size_t n_bytes) {
  if (n_bytes == 0) return {};  // data may be null then
  SPATE_CHECK(file_ != nullptr, "write after commit to {}", path_);
  if (std::fwrite(data, 1, n_bytes, file_.get()) == n_bytes) return {};
  return Error::io(path_, fmt::format("cannot be written: {}", std::strerror(errno)));
}

Result<void> AtomicFile::commit() {
  SPATE_CHECK(file_ != nullptr, "second commit of {}", path_);
  const bool flushed = std::fflush(file_.get()) == 0 && fsync(fileno(file_.get())) == 0;
  if (!flushed || rename(temporary_.c_str(), path_.c_str()) != 0)
    return Error::io(path_, fmt::format("cannot be written: {}", std::strerror(errno)));
  file_.reset();
  return {};
}

}  // namespace spate
