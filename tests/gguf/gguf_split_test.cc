#include "gguf/gguf_split.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;

// Part `index` of `count`, with one tensor named "t<index>" of 8 floats; part 0 has a key more.
struct Part {
  int index = 0, count = 3;
  int n_tensors = 3;  // split.tensors.count
  std::string tensor = "";
};

GgufBuilder part(const Part& p) {
  GgufBuilder b;
  b.header(1, p.index == 0 ? 4 : 3);
  if (p.index == 0) b.key("general.name", 8).string("split model");
  b.key("split.no", 2).put(static_cast<uint16_t>(p.index));
  b.key("split.count", 2).put(static_cast<uint16_t>(p.count));
  b.key("split.tensors.count", 5).put(static_cast<int32_t>(p.n_tensors));
  b.tensor(p.tensor.empty() ? fmt::format("t{}", p.index) : p.tensor, {8}, 0, 0).pad();
  return b.bytes(std::string(32, static_cast<char>('a' + p.index)));
}

class GgufSplitTest : public ::testing::Test {
 protected:
  GgufSplitTest() {
    for (int i = 0; i < 3; ++i) put(i, part({.index = i}));
  }

  std::string path(int index) const { return split_path(folder_.path("model"), index, 3); }
  void put(int index, const GgufBuilder& builder) { testing::write_file(path(index), builder.text()); }

  // Opening any part is refused, with a message that begins with the path of part `culprit`, or of the part that was
  // named, whichever is read first.
  void expect_refused(int named, int culprit, const std::string& says, ErrorCode code = ErrorCode::kBadFile) {
    const Result<GgufFile> file = GgufFile::open(path(named));
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(file.error().code, code);
    EXPECT_EQ(file.error().message.find(path(culprit) + ": "), 0u) << file.error().message;
    EXPECT_THAT(file.error().message, HasSubstr(says));
  }

  testing::TemporaryFolder folder_;
};

TEST_F(GgufSplitTest, AnyPartNamed_OpensAll) {
  for (int named = 0; named < 3; ++named) {
    const Result<GgufFile> file = GgufFile::open(path(named));
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(file->n_files(), 3);
    EXPECT_EQ(file->path(), path(0));
    EXPECT_EQ(**file->string("general.name"), "split model");  // the first part's metadata
    ASSERT_EQ(file->tensors().size(), 3u);
    uint64_t total_bytes = 0;
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(file->file(i).path(), path(i));
      const GgufTensor* tensor = file->find_tensor(fmt::format("t{}", i));
      ASSERT_EQ(tensor, &file->tensors()[i]);
      EXPECT_EQ(tensor->file_index, i);
      EXPECT_EQ(tensor->data[0], static_cast<std::byte>('a' + i));
      EXPECT_EQ(tensor->data.data(), file->file(i).bytes().data() + tensor->offset);
      total_bytes += file->file(i).bytes().size();
    }
    EXPECT_EQ(file->total_bytes(), total_bytes);
  }
}

TEST_F(GgufSplitTest, OnePartOfOne_IsAWholeModelUnderAnyName) {
  const std::string whole = folder_.path("whole.gguf");
  testing::write_file(whole, part({.index = 0, .count = 1, .n_tensors = 1}).text());
  const Result<GgufFile> file = GgufFile::open(whole);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->n_files(), 1);
}

TEST_F(GgufSplitTest, MissingPart_IsAnIoErrorNamingIt) {
  std::filesystem::remove(path(1));
  expect_refused(0, 1, "No such file or directory (part 2 of the 3 of a split model", ErrorCode::kIo);
  expect_refused(2, 1, "part 2 of the 3", ErrorCode::kIo);
}

TEST_F(GgufSplitTest, PartUnderAnotherName_IsRefused) {
  std::filesystem::rename(path(1), folder_.path("renamed.gguf"));
  const Result<GgufFile> file = GgufFile::open(folder_.path("renamed.gguf"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().message.find(folder_.path("renamed.gguf") + ": "), 0u);
  EXPECT_THAT(file.error().message, HasSubstr("part 2 of a model split into 3"));
  EXPECT_THAT(file.error().message, HasSubstr("'-00002-of-00003.gguf'"));
}

TEST_F(GgufSplitTest, PartsSwapped_AreRefusedByTheirSplitNo) {
  put(1, part({.index = 2}));
  expect_refused(0, 1, "key 'split.no' is 2, but the file's name says part 2, which is 1");
  // Named itself, its own name is what does not fit.
  expect_refused(1, 1, "must end in '-00003-of-00003.gguf'");
}

TEST_F(GgufSplitTest, PartOfAnotherSplit_IsRefused) {
  put(2, part({.index = 2, .count = 4}));
  expect_refused(0, 2, "key 'split.count' is 4, but 3 in the part that was opened first");
}

TEST_F(GgufSplitTest, WholeModelInPlaceOfAPart_IsRefused) {
  put(1, GgufBuilder().header(0, 0));
  expect_refused(0, 1, "is a whole model, not part 2 of a split one");
}

TEST_F(GgufSplitTest, TensorCounts_MustAgreeWithEachOtherAndWithTheTensors) {
  put(1, part({.index = 1, .n_tensors = 4}));
  expect_refused(0, 1, "key 'split.tensors.count' is 4, but 3 in the part that was opened first");
  for (int i = 0; i < 3; ++i) put(i, part({.index = i, .n_tensors = 4}));
  expect_refused(0, 0, "key 'split.tensors.count' is 4, but the 3 parts hold 3 tensors");
}

TEST_F(GgufSplitTest, SameTensorInTwoParts_IsRefused) {
  put(2, part({.index = 2, .tensor = "t0"}));
  expect_refused(0, 2, "tensor 't0' is also in '" + path(0) + "'");
}

TEST_F(GgufSplitTest, BadPart_IsRefusedByItsOwnName) {
  put(1, GgufBuilder().header(~uint64_t{0}, 0));
  expect_refused(2, 1, "tensors cannot fit");
}

TEST_F(GgufSplitTest, SplitKeysMissingOrOutOfRange_AreRefused) {
  const auto count_3 = [](uint64_t n) { return GgufBuilder().header(0, n).key("split.count", 2).put(uint16_t{3}); };
  put(0, count_3(1));
  expect_refused(0, 0, "key 'split.no' is missing");
  put(0, count_3(2).key("split.no", 2).put(uint16_t{0}));
  expect_refused(0, 0, "key 'split.tensors.count' is missing");
  put(0, count_3(2).key("split.no", 2).put(uint16_t{3}));
  expect_refused(0, 0, "key 'split.no' is 3; it must be an integer from 0 to 2");
  put(0, count_3(3).key("split.no", 2).put(uint16_t{0}).key("split.tensors.count", 5).put(-1));
  expect_refused(0, 0, "key 'split.tensors.count' is -1");
  put(0, GgufBuilder().header(0, 1).key("split.count", 8).string("3"));
  expect_refused(0, 0, "key 'split.count' is the string '3'");
  put(0, GgufBuilder().header(0, 1).key("split.count", 4).put(65536u));
  expect_refused(0, 0, "key 'split.count' is 65536");
}

TEST(GgufSplitNames, PrefixAndPath_AreInverse) {
  const SplitInfo second_of_12{.index = 1, .count = 12};
  EXPECT_EQ(split_path("/models/m", 1, 12), "/models/m-00002-of-00012.gguf");
  EXPECT_EQ(split_prefix("/models/m-00002-of-00012.gguf", second_of_12), "/models/m");
  EXPECT_EQ(split_prefix("-00002-of-00012.gguf", second_of_12), "");
  for (const char* other : {"m-00001-of-00012.gguf", "m-00002-of-00011.gguf", "m-2-of-12.gguf", "m.gguf", ""})
    EXPECT_EQ(split_prefix(other, second_of_12), std::nullopt) << other;
}

}  // namespace
}  // namespace spate
