#include "base/file.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptor.h"

namespace spate {

namespace {

Error no_name() {
  return Error::io("''", "is no name of a file");
}

Error too_large(const std::string& name, uint64_t max_bytes) {
  return Error::io(name, fmt::format("has more than {} MiB, too much for what it should hold", max_bytes >> 20));
}

// Up to the end of what `fd` gives. Whoever shares a terminal or a pipe with us may have made it non-blocking.
Result<std::string> read_all(int fd, const std::string& name, uint64_t max_bytes) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (text.size() <= max_bytes) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n == 0) return text;
    if (n > 0) {
      text.append(buffer.data(), static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
      poll(&readable, 1, -1);
    } else if (errno != EINTR) {
      return Error::io(name, std::strerror(errno));
    }
  }
  return too_large(name, max_bytes);
}

}  // namespace

Result<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  if (path == "-") return read_all(STDIN_FILENO, "standard input", max_bytes);
  if (path.empty()) return no_name();
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (file.get() < 0) return Error::io(path, std::strerror(errno));
  return read_all(file.get(), path, max_bytes);
}

Result<std::string> read_regular_file(const std::string& path, uint64_t max_bytes) {
  // O_NONBLOCK: a FIFO that nobody writes to would hang here, before it could be seen to be one.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status = {};
  if (file.get() < 0 || fstat(file.get(), &status) != 0) return Error::io(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return Error::io(path, "is not a regular file");
  if (static_cast<uint64_t>(status.st_size) > max_bytes) return too_large(path, max_bytes);
  return read_all(file.get(), path, max_bytes);  // which finds out one that grew, or does not tell its size
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
  if (path.empty()) return no_name();
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
