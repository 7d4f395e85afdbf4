#include "base/file.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support/test_data.h"

namespace spate {
namespace {

using ::testing::HasSubstr;

int n_entries(const std::string& folder) {
  int n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) n += entry.exists() ? 1 : 0;
  return n;
}

TEST(ReadFile, BytesOfAnyKind_ComeBackUnchanged) {
  testing::TemporaryFolder folder;
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes += static_cast<char>(i * 7);  // past one read buffer, with zeros
  std::ofstream(folder.path("a"), std::ios::binary) << bytes;
  EXPECT_EQ(*read_file(folder.path("a")), bytes);
  std::ofstream(folder.path("empty"), std::ios::binary).flush();
  EXPECT_EQ(*read_file(folder.path("empty")), "");
}

TEST(ReadFile, MissingFileOrFolder_IsAnErrorNamingThePath) {
  testing::TemporaryFolder folder;
  const Result<std::string> missing = read_file(folder.path("none"));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kIo);
  EXPECT_EQ(missing.error().message, folder.path("none") + ": No such file or directory");
  const Result<std::string> directory = read_file(folder.path("."));
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().code, ErrorCode::kIo);
}

TEST(ReadFile, WhatNeverEnds_IsRefusedBeyondTheBound) {
  const Result<std::string> refused = read_file("/dev/zero", 1 << 20);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_EQ(refused.error().message, "/dev/zero: has more than 1 MiB, too much for what it should hold");
  testing::TemporaryFolder folder;
  std::ofstream(folder.path("a"), std::ios::binary) << std::string(1 << 20, 'x');
  EXPECT_EQ(read_file(folder.path("a"), 1 << 20).value().size(), size_t{1} << 20);
}

TEST(ReadFile, NoName_IsSaidSo) {
  EXPECT_EQ(read_file("").error().message, "'': is no name of a file");
  EXPECT_EQ(AtomicFile::create("").error().message, "'': is no name of a file");
}

TEST(ReadRegularFile, WhatIsNoRegularFile_IsRefusedWithoutWaiting) {
  testing::TemporaryFolder folder;
  ASSERT_EQ(mkfifo(folder.path("fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder.path("fifo"), folder.path("."), std::string("/dev/zero")}) {
    const Result<std::string> refused = read_regular_file(path, 100);
    ASSERT_FALSE(refused.ok()) << path;
    EXPECT_EQ(refused.error().code, ErrorCode::kIo);
    EXPECT_EQ(refused.error().message, path + ": is not a regular file");
  }
}

TEST(ReadRegularFile, OneByteTooMany_IsRefused) {
  testing::TemporaryFolder folder;
  constexpr size_t kMax = 1 << 20;
  std::ofstream(folder.path("a"), std::ios::binary) << std::string(kMax, 'x');
  EXPECT_EQ(read_regular_file(folder.path("a"), kMax).value(), std::string(kMax, 'x'));
  std::ofstream(folder.path("a"), std::ios::binary | std::ios::app) << 'y';
  const Result<std::string> refused = read_regular_file(folder.path("a"), kMax);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("/a: has more than 1 MiB"));
  // Files of the kernel say that they are empty.
  EXPECT_THAT(read_regular_file("/proc/self/status", kMax).value(), HasSubstr("Pid:"));
  EXPECT_FALSE(read_regular_file("/proc/self/status", 10).ok());
}

TEST(AtomicFile, UntilCommitted_TheTargetIsAsBefore) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("out");
  std::ofstream(path) << "old";
  Result<AtomicFile> file = AtomicFile::create(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(file->write("new ").ok());
  EXPECT_EQ(*read_file(path), "old");
  ASSERT_TRUE(file->write("text").ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(*read_file(path), "new text");
  EXPECT_EQ(n_entries(folder.path(".")), 1);
}

TEST(AtomicFile, Abandoned_LeavesNothingBehind) {
  testing::TemporaryFolder folder;
  {
    Result<AtomicFile> file = AtomicFile::create(folder.path("out"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write("half").ok());
    AtomicFile moved = std::move(*file);
    ASSERT_TRUE(moved.write("more").ok());
    EXPECT_EQ(n_entries(folder.path(".")), 1);
  }
  EXPECT_EQ(n_entries(folder.path(".")), 0);
}

TEST(AtomicFile, NewFile_TakesTheUmaskNotThatOfATemporaryFile) {
  testing::TemporaryFolder folder;
  const mode_t before = umask(022);
  Result<AtomicFile> file = AtomicFile::create(folder.path("out"));
  umask(before);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->commit().ok());
  struct stat status = {};
  ASSERT_EQ(stat(folder.path("out").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

TEST(AtomicFile, FileThatIsReplaced_PassesItsPermissionsOn) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("out");
  for (const mode_t mode : {0600u, 0666u}) {
    std::ofstream(path) << "old";
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    Result<AtomicFile> file = AtomicFile::create(path);
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_TRUE(file->commit().ok());
    struct stat status = {};
    ASSERT_EQ(stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, mode);
  }
}

TEST(AtomicFile, PrivateFile_IsForItsOwnerWhoeverReadTheOneBefore) {
  testing::TemporaryFolder folder;
  for (const std::string name : {"new", "old"}) {
    if (name == "old") {
      std::ofstream(folder.path(name)) << "for all to see";
      ASSERT_EQ(chmod(folder.path(name).c_str(), 0644), 0);
    }
    Result<AtomicFile> file = AtomicFile::create_private(folder.path(name));
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_TRUE(file->commit().ok());
    struct stat status = {};
    ASSERT_EQ(stat(folder.path(name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
  }
}

TEST(AtomicFile, SymbolicLink_StaysAndItsTargetIsReplaced) {
  testing::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path("there"));
  std::filesystem::create_symlink("there/second", folder.path("first"));
  std::filesystem::create_symlink(folder.path("there/target"), folder.path("there/second"));
  for (const std::string text : {"not there before", "there before"}) {
    Result<AtomicFile> file = AtomicFile::create(folder.path("first"));
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_TRUE(file->write(text).ok());
    ASSERT_TRUE(file->commit().ok());
    EXPECT_TRUE(std::filesystem::is_symlink(folder.path("first")));
    EXPECT_TRUE(std::filesystem::is_symlink(folder.path("there/second")));
    EXPECT_EQ(*read_file(folder.path("there/target")), text);
  }
  EXPECT_EQ(n_entries(folder.path(".")), 2);
  EXPECT_EQ(n_entries(folder.path("there")), 2);
}

TEST(AtomicFile, SymbolicLinksInACircle_AreAnError) {
  testing::TemporaryFolder folder;
  std::filesystem::create_symlink("b", folder.path("a"));
  std::filesystem::create_symlink("a", folder.path("b"));
  const Result<AtomicFile> file = AtomicFile::create(folder.path("a"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, ErrorCode::kIo);
  EXPECT_TRUE(std::filesystem::is_symlink(folder.path("a")));
}

TEST(AtomicFile, UnwritableTarget_IsAnErrorNamingThePath) {
  testing::TemporaryFolder folder;
  const Result<AtomicFile> no_folder = AtomicFile::create(folder.path("none/out"));
  ASSERT_FALSE(no_folder.ok());
  EXPECT_EQ(no_folder.error().code, ErrorCode::kIo);
  EXPECT_THAT(no_folder.error().message, HasSubstr(folder.path("none/out") + ": cannot be written"));
}

TEST(AtomicFile, DeviceOrFolder_IsNotReplaced) {
  testing::TemporaryFolder folder;
  for (const std::string& path : {std::string("/dev/null"), folder.path(".")}) {
    const Result<AtomicFile> file = AtomicFile::create(path);
    ASSERT_FALSE(file.ok()) << path;
    EXPECT_EQ(file.error().message, path + ": is not a regular file; it cannot be replaced");
  }
}

TEST(AtomicFileDeath, UseAfterCommit_IsOurBug) {
  testing::TemporaryFolder folder;
  Result<AtomicFile> file = AtomicFile::create(folder.path("out"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_DEATH((void)file->write("late"), "write after commit");
  EXPECT_DEATH((void)file->commit(), "second commit");
}

}  // namespace
}  // namespace spate
