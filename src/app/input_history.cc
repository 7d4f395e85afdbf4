#include "app/input_history.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/env_options.h"
#include "base/file.h"
#include "base/utf8.h"

namespace spate::app {

namespace {

std::string escaped(std::string_view entry) {
  std::string line;
  for (const char c : entry) {
    if (c == '\n')
      line += "\\n";
    else if (c == '\\')
      line += "\\\\";
    else
      line += c;
  }
  return line + '\n';
}

std::string unescaped(std::string_view line) {
  std::string entry;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\' || i + 1 == line.size()) {
      entry += line[i];
    } else {
      ++i;
      entry += line[i] == 'n' ? '\n' : line[i];
    }
  }
  return entry;
}

// Programs side by side may let the file grow beyond what one would keep; this much it never comes to.
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;

// O_NONBLOCK: opening a FIFO in its place must not hang.
int open_private(const std::string& path, int flags) {
  return ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
}

Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) return Error::io(path, std::strerror(errno));
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace

std::string InputHistory::default_path() {
  const EnvOptions& env = env_options();
  // The specification ignores paths that are not absolute.
  if (env.state_home.starts_with('/')) return env.state_home + "/spate/chat_history";
  return env.home.empty() ? std::string() : env.home + "/.local/state/spate/chat_history";
}

Result<InputHistory> InputHistory::open(std::string path) {
  std::error_code error;
  const auto folder = std::filesystem::path(path).parent_path();
  const bool had_folder = std::filesystem::exists(folder, error);
  std::filesystem::create_directories(folder, error);
  if (error) return Error::io(folder.string(), error.message());
  if (!had_folder) std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  InputHistory history(std::move(path));
  {
    const Descriptor file(open_private(history.path_, O_RDWR));
    struct stat status = {};
    if (file.get() < 0 || fstat(file.get(), &status) != 0) return Error::io(history.path_, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) return Error::io(history.path_, "is not a regular file");
    if ((status.st_mode & 077) != 0 && fchmod(file.get(), 0600) != 0)
      return Error::io(history.path_, fmt::format("others can read it: {}", std::strerror(errno)));
  }
  SPATE_TRY(const std::string text, read_regular_file(history.path_, kMaxFileBytes));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string entry = sanitize_utf8(unescaped(std::string_view(text).substr(begin, end - begin)));
    if (!entry.empty()) history.entries_.push_back(std::move(entry));
    begin = end + 1;
  }
  if (history.entries_.size() > kMaxEntries) SPATE_TRY_VOID(history.trim());
  return history;
}

// Beside the file and then in its place: what ends the program or fills the disk costs no entry.
Result<void> InputHistory::trim() {
  entries_.erase(entries_.begin(), entries_.end() - kMaxEntries);
  SPATE_TRY(AtomicFile file, AtomicFile::create_private(path_));
  for (const std::string& entry : entries_) SPATE_TRY_VOID(file.write(escaped(entry)));
  return file.commit();
}

Result<void> InputHistory::add(std::string_view entry) {
  if (entry.empty() || entry.size() > kMaxEntryBytes || (!entries_.empty() && entries_.back() == entry)) return {};
  entries_.emplace_back(entry);
  const Descriptor file(open_private(path_, O_WRONLY | O_APPEND));
  if (file.get() < 0) return Error::io(path_, std::strerror(errno));
  return write_all(file.get(), escaped(entry), path_);  // one write: programs side by side do not mix their lines
}

}  // namespace spate::app
