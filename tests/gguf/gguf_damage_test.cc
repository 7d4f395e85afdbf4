// Files that were valid before something happened to them: cut off, bytes flipped, shrunk while open.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

#include "gguf/gguf_file.h"

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;

// Every value type, alone and in an array, and two tensors; it ends with the last tensor's last byte, so that no proper
// prefix of it is valid.
GgufBuilder specimen() {
  GgufBuilder b;
  b.header(2, 15);
  b.key("general.architecture", 8).string("test");
  b.key("u8", 0).put(uint8_t{1}).key("i8", 1).put(int8_t{-1}).key("u16", 2).put(uint16_t{2}).key("i16", 3);
  b.put(int16_t{-2}).key("u32", 4).put(3u).key("i32", 5).put(-3).key("f32", 6).put(0.5f).key("bool", 7).put('\1');
  b.key("u64", 10).put(uint64_t{4}).key("i64", 11).put(int64_t{-4}).key("f64", 12).put(0.25);
  b.key("strings", 9).array(8, 3).string("a").string("").string("ccc");
  b.key("bools", 9).array(7, 2).put('\0').put('\1');
  b.key("shorts", 9).array(2, 3).put(uint16_t{7}).put(uint16_t{8}).put(uint16_t{9});
  b.tensor("blk.0.w", {8, 2}, 0, 0).tensor("q", {32}, 2, 64).pad().data(64 + 18);
  return b;
}

// Opens the bytes as a file and, if that works, touches everything that the file offers.
bool opens(const std::string& path, std::string_view bytes, std::string* message = nullptr) {
  testing::write_file(path, bytes);
  const Result<GgufFile> file = GgufFile::open(path);
  if (!file.ok()) {
    EXPECT_EQ(file.error().message.find(path + ": "), 0u) << file.error().message;
    if (message != nullptr) *message = file.error().message;
    return false;
  }
  double sum = 0;
  for (const auto& [key, value] : file->metadata()) {
    EXPECT_EQ(file->find(key), &value);
    sum += static_cast<double>(describe(value).size());
    const auto* array = std::get_if<GgufArray>(&value);
    if (array == nullptr) continue;
    for (std::string_view text : array->strings)
      for (char c : text) sum += c;
    if (is_scalar(array->element_type))
      for (uint64_t i = 0; i < array->size; ++i) sum += array->number(i);
  }
  for (const GgufTensor& tensor : file->tensors())
    for (std::byte byte : tensor.data) sum += std::to_integer<int>(byte);
  EXPECT_NE(sum, 0);
  EXPECT_TRUE(file->check_intact().ok());
  return true;
}

TEST(GgufDamage, Specimen_IsValidAsItIs) {
  testing::TemporaryFolder folder;
  EXPECT_TRUE(opens(folder.path("a.gguf"), specimen().text()));
}

TEST(GgufDamage, TruncatedAtEveryStructuralBoundary_IsRefusedSayingWhere) {
  testing::TemporaryFolder folder;
  const GgufBuilder whole = specimen();
  for (size_t n : whole.boundaries()) {
    std::string message;
    ASSERT_FALSE(opens(folder.path("a.gguf"), whole.text().substr(0, n), &message)) << n;
    if (n < 4) continue;  // no GGUF file at all
    EXPECT_TRUE(message.find("byte") != std::string::npos || message.find("past the end") != std::string::npos)
        << message;
  }
}

TEST(GgufDamage, TruncatedAtEveryByte_IsRefused) {
  testing::TemporaryFolder folder;
  const std::string whole = specimen().text();
  for (size_t n = 0; n < whole.size(); ++n) ASSERT_FALSE(opens(folder.path("a.gguf"), whole.substr(0, n))) << n;
}

TEST(GgufDamage, EveryByteChanged_OpensOrIsRefused) {
  testing::TemporaryFolder folder;
  const std::string whole = specimen().text();
  int n_opened = 0, n_refused = 0;
  for (size_t i = 0; i < whole.size(); ++i)
    for (const int value : {0x00, 0xFF, whole[i] ^ 0x01, whole[i] ^ 0x80}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(value);
      ++(opens(folder.path("a.gguf"), changed) ? n_opened : n_refused);
    }
  EXPECT_GT(n_opened, 300);   // values and tensor data may be anything
  EXPECT_GT(n_refused, 300);  // lengths, types and offsets may not
}

TEST(GgufDamage, RandomBytesChanged_OpensOrIsRefused) {
  testing::TemporaryFolder folder;
  const std::string whole = specimen().text();
  std::mt19937 random(1);
  int n_refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string changed = whole;
    for (int n = 1 + static_cast<int>(random() % 8); n > 0; --n)
      changed[8 + random() % (changed.size() - 8)] = static_cast<char>(random());
    n_refused += opens(folder.path("a.gguf"), changed) ? 0 : 1;
  }
  EXPECT_GT(n_refused, 1000);
}

TEST(GgufDamage, ShrunkWhileOpen_IsAnErrorNotASignal) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const std::string bytes = GgufBuilder().header(1, 0).tensor("w", {4 * page}, 0, 0).pad().data(16 * page).text();
  testing::write_file(path, bytes);
  const Result<GgufFile> file = GgufFile::open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(file->check_intact().ok());
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(page)), 0);
  const std::span<const std::byte> data = file->find_tensor("w")->data;
  int sum = 0;
  for (std::byte byte : data.last(page)) sum += std::to_integer<int>(byte);
  EXPECT_EQ(sum, 0);  // what was there is gone, and reads as zeros
  EXPECT_TRUE(file->file(0).damaged());
  const Result<void> intact = file->check_intact();
  ASSERT_FALSE(intact.ok());
  EXPECT_EQ(intact.error().code, ErrorCode::kIo);
  EXPECT_THAT(intact.error().message, HasSubstr(path + ": the file shrank"));
}

}  // namespace
}  // namespace spate
