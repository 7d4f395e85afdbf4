#include "base/mapped_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace spate {

namespace {

// The handler may only touch lock-free atomics, so the guarded regions are a fixed table, claimed and freed under a
// mutex.
struct Region {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};  // 0: free
  std::atomic<bool> damaged{false};
};
constexpr int kMaxRegions = 1024;  // a split model has at most some hundreds of files
std::array<Region, kMaxRegions> regions;
std::mutex regions_mutex;
struct sigaction previous_action;

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  static const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (Region& region : regions) {
    const uintptr_t end = region.end.load(std::memory_order_acquire);
    if (end == 0 || address >= end || address < region.begin.load(std::memory_order_relaxed)) continue;
    void* page = reinterpret_cast<void*>(address & ~(page_bytes - 1));
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    // Marked before the zeros appear: another thread that reads them, without a fault of its own, then sees the mark.
    region.damaged.store(true, std::memory_order_seq_cst);
    // By its system call: the thread sanitizer takes the library's mmap for a write to the page, racing with its
    // readers, but all that a reader can find there, before and after, is a fault that ends here or zeros.
    if (syscall(SYS_mmap, page, page_bytes, PROT_READ, flags, -1, 0) == -1) break;
    errno = saved_errno;
    return;
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(signal, info, context);
    return;
  }
  // Returning runs a faulting read again, now under the old handler; a signal that a process sent must be sent again.
  sigaction(SIGBUS, &previous_action, nullptr);
  if (info->si_code <= 0) raise(signal);
}

int guard(const std::byte* data, size_t size_bytes) {
  static const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  std::lock_guard lock(regions_mutex);
  static bool installed = false;
  if (!installed) {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    installed = sigaction(SIGBUS, &action, &previous_action) == 0;
  }
  for (int i = 0; i < kMaxRegions; ++i) {
    Region& region = regions[i];
    if (region.end.load(std::memory_order_relaxed) != 0) continue;
    const auto begin = reinterpret_cast<uintptr_t>(data);
    region.damaged.store(false, std::memory_order_relaxed);
    region.begin.store(begin, std::memory_order_relaxed);
    region.end.store((begin + size_bytes + page_bytes - 1) & ~(page_bytes - 1), std::memory_order_release);
    return i;
  }
  return -1;
}

void unguard(int index) {
  std::lock_guard lock(regions_mutex);
  regions[index].end.store(0, std::memory_order_release);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  MappedFile mapped;
  mapped.path_ = path;
  // Non-blocking, so that naming a pipe is an error and not a wait for its writer; regular files take no notice.
  mapped.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (mapped.fd_ < 0) return Error::io(path.empty() ? "''" : path, std::strerror(errno));
  struct stat status = {};
  if (fstat(mapped.fd_, &status) != 0) return Error::io(path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) return Error::io(path, "is a folder; name a file");
  if (!S_ISREG(status.st_mode)) return Error::io(path, "is not a regular file; it cannot be mapped");

  mapped.size_bytes_ = static_cast<size_t>(status.st_size);
  if (mapped.size_bytes_ == 0) return mapped;
  void* data = mmap(nullptr, mapped.size_bytes_, PROT_READ, MAP_SHARED, mapped.fd_, 0);
  if (data == MAP_FAILED) {
    mapped.size_bytes_ = 0;
    return Error::io(path, fmt::format("cannot be mapped: {}", std::strerror(errno)));
  }
  mapped.data_ = static_cast<std::byte*>(data);
  mapped.region_ = guard(mapped.data_, mapped.size_bytes_);
  if (mapped.region_ < 0) return Error::io(path, fmt::format("more than {} files are mapped at once", kMaxRegions));
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  close();
  path_ = std::move(other.path_);
  data_ = std::exchange(other.data_, nullptr);
  size_bytes_ = std::exchange(other.size_bytes_, 0);
  fd_ = std::exchange(other.fd_, -1);
  region_ = std::exchange(other.region_, -1);
  return *this;
}

MappedFile::~MappedFile() {
  close();
}

void MappedFile::close() {
  if (region_ >= 0) unguard(region_);
  if (data_ != nullptr) munmap(data_, size_bytes_);
  if (fd_ >= 0) ::close(fd_);
  data_ = nullptr;
  size_bytes_ = 0;
  fd_ = -1;
  region_ = -1;
}

bool MappedFile::damaged() const {
  return region_ >= 0 && regions[region_].damaged.load(std::memory_order_acquire);
}

Result<void> MappedFile::check_intact() const {
  struct stat status = {};
  const bool shorter = fd_ >= 0 && fstat(fd_, &status) == 0 && static_cast<size_t>(status.st_size) < size_bytes_;
  if (!damaged() && !shorter) return {};
  return Error::io(path_, "the file shrank, or its disk failed, while it was in use; restore it and start again");
}

void MappedFile::will_need(size_t offset, size_t length) const {
  if (offset >= size_bytes_) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  const size_t end = offset + std::min(length, size_bytes_ - offset);
  madvise(data_ + begin, end - begin, MADV_WILLNEED);
}

void MappedFile::release(size_t offset, size_t length) const {
  // Whole pages only: a page shared with a neighbour that is still to be read stays.
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (offset >= size_bytes_) return;
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + std::min(length, size_bytes_ - offset)) / page * page;
  if (begin < end) madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace spate
