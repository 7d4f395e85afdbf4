#include "base/mapped_file.h"

#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "support/test_data.h"

namespace spate {
namespace {

using ::testing::HasSubstr;

const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));

std::string write_bytes(const testing::TemporaryFolder& folder, const std::string& name, size_t n_bytes) {
  const std::string path = folder.path(name);
  std::ofstream(path, std::ios::binary) << std::string(n_bytes, 'x');
  return path;
}

// Reads each byte through memory, whatever the compiler thinks that it knows.
int count_of(const MappedFile& file, char wanted) {
  int n = 0;
  for (const std::byte& byte : file.bytes())
    n += *static_cast<const volatile char*>(reinterpret_cast<const char*>(&byte)) == wanted ? 1 : 0;
  return n;
}

TEST(MappedFile, Open_MapsEveryByte) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("a");
  std::ofstream(path, std::ios::binary) << "seven b";
  const Result<MappedFile> file = MappedFile::open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_EQ(file->bytes().size(), 7u);
  EXPECT_EQ(std::memcmp(file->bytes().data(), "seven b", 7), 0);
  EXPECT_EQ(file->path(), path);
  EXPECT_FALSE(file->damaged());
  EXPECT_TRUE(file->check_intact().ok());
}

TEST(MappedFile, EmptyFile_MapsToAnEmptySpan) {
  testing::TemporaryFolder folder;
  const Result<MappedFile> file = MappedFile::open(write_bytes(folder, "empty", 0));
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes().empty());
  EXPECT_TRUE(file->check_intact().ok());
  file->will_need(0, 10);
  file->release(0, 10);
}

TEST(MappedFile, WhatCannotBeMapped_IsAnErrorNamingThePath) {
  testing::TemporaryFolder folder;
  const auto error_of = [](const std::string& path) {
    const Result<MappedFile> file = MappedFile::open(path);
    return file.ok() ? Error::usage("opened") : file.error();
  };
  EXPECT_EQ(error_of(folder.path("none")).code, ErrorCode::kIo);
  EXPECT_EQ(error_of(folder.path("none")).message, folder.path("none") + ": No such file or directory");
  EXPECT_EQ(error_of(folder.path(".")).message, folder.path(".") + ": is a folder; name a file");
  ASSERT_EQ(mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(error_of(folder.path("pipe")).message, HasSubstr("pipe: is not a regular file"));  // and does not wait
}

TEST(MappedFile, Moved_KeepsItsBytesAndItsGuard) {
  testing::TemporaryFolder folder;
  const std::string path = write_bytes(folder, "a", 3 * page_bytes);
  MappedFile first = std::move(*MappedFile::open(path));
  const std::byte* data = first.bytes().data();
  MappedFile second = std::move(*MappedFile::open(write_bytes(folder, "b", 10)));
  second = std::move(first);
  EXPECT_EQ(second.bytes().data(), data);
  EXPECT_EQ(second.path(), path);
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  EXPECT_EQ(count_of(second, 'x'), 0);
  EXPECT_TRUE(second.damaged());
}

TEST(MappedFile, ShrunkWhileMapped_ReadsZerosAndIsAnErrorNotASignal) {
  testing::TemporaryFolder folder;
  const std::string path = write_bytes(folder, "a", 8 * page_bytes);
  const MappedFile file = std::move(*MappedFile::open(path));
  const MappedFile bystander = std::move(*MappedFile::open(write_bytes(folder, "b", page_bytes)));
  EXPECT_EQ(count_of(file, 'x'), static_cast<int>(8 * page_bytes));
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(2 * page_bytes)), 0);
  EXPECT_FALSE(file.damaged());  // nothing has been read since
  EXPECT_EQ(count_of(file, 'x'), static_cast<int>(2 * page_bytes));
  EXPECT_TRUE(file.damaged());
  const Result<void> intact = file.check_intact();
  ASSERT_FALSE(intact.ok());
  EXPECT_EQ(intact.error().code, ErrorCode::kIo);
  EXPECT_THAT(intact.error().message, HasSubstr(path + ": the file shrank"));
  EXPECT_FALSE(bystander.damaged());
  EXPECT_TRUE(bystander.check_intact().ok());
}

TEST(MappedFile, ShrunkWithinItsLastPage_IsFoundByCheckIntact) {
  testing::TemporaryFolder folder;
  const std::string path = write_bytes(folder, "a", 100);
  const MappedFile file = std::move(*MappedFile::open(path));
  ASSERT_EQ(truncate(path.c_str(), 10), 0);
  EXPECT_EQ(count_of(file, 'x'), 10);  // zeros, and no signal to notice them by
  EXPECT_FALSE(file.check_intact().ok());
}

TEST(MappedFile, ShrunkUnderManyReaders_EveryReaderOfZerosSeesTheMark) {
  testing::TemporaryFolder folder;
  const std::string path = write_bytes(folder, "a", 64 * page_bytes);
  const MappedFile file = std::move(*MappedFile::open(path));
  ASSERT_EQ(truncate(path.c_str(), 0), 0);
  std::atomic<int> unmarked{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&] {
      for (size_t offset = 0; offset < file.bytes().size(); offset += page_bytes) {
        const auto* byte = reinterpret_cast<const volatile char*>(file.bytes().data() + offset);
        if (*byte == 0 && !file.damaged()) ++unmarked;
      }
    });
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(unmarked, 0);
}

TEST(MappedFile, SlotOfAClosedMapping_IsFreeAgainAndUnmarked) {
  testing::TemporaryFolder folder;
  const std::string path = write_bytes(folder, "a", 2 * page_bytes);
  for (int i = 0; i < 1500; ++i) {  // more than are ever guarded at once
    const Result<MappedFile> file = MappedFile::open(path);
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_FALSE(file->damaged());
    if (i == 0) {
      ASSERT_EQ(truncate(path.c_str(), 1), 0);
      EXPECT_EQ(count_of(*file, 'x'), 1);
      EXPECT_TRUE(file->damaged());
    }
  }
}

// By the signal itself; or by AddressSanitizer, whose handler was there before and so takes over.
bool ended_by_sigbus(int status) {
  return (WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) || (WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

TEST(MappedFileDeath, SigbusElsewhere_StillEndsTheProcess) {
  testing::TemporaryFolder folder;
  const MappedFile file = std::move(*MappedFile::open(write_bytes(folder, "a", 1)));
  EXPECT_EXIT((raise(SIGBUS), _exit(0)), ended_by_sigbus, "");

  const int fd = open(write_bytes(folder, "b", 1).c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  void* unguarded = mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(unguarded, MAP_FAILED);
  ASSERT_EQ(ftruncate(fd, 0), 0);
  EXPECT_EXIT(_exit(*static_cast<const volatile char*>(unguarded) & 0), ended_by_sigbus, "");
  munmap(unguarded, page_bytes);
  close(fd);
}

TEST(MappedFile, Hints_OfAnyRange_KeepTheBytes) {
  testing::TemporaryFolder folder;
  const MappedFile file = std::move(*MappedFile::open(write_bytes(folder, "a", 5 * page_bytes + 17)));
  const size_t size = file.bytes().size();
  for (size_t offset : {size_t{0}, size_t{1}, page_bytes, size - 1, size, size + 1, SIZE_MAX})
    for (size_t length : {size_t{0}, size_t{1}, page_bytes, size, SIZE_MAX}) {
      file.will_need(offset, length);
      file.release(offset, length);
    }
  EXPECT_EQ(count_of(file, 'x'), static_cast<int>(size));
  EXPECT_TRUE(file.check_intact().ok());
}

}  // namespace
}  // namespace spate
