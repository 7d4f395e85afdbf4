#include "gguf/gguf_writer.h"

#include <algorithm>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate {
namespace {

class GgufWriterTest : public ::testing::Test {
 protected:
  std::string bytes_of(const GgufWriter& writer) {
    const std::string path = folder_.path("written.gguf");
    const Result<void> written = writer.write(path);
    SPATE_CHECK(written.ok(), "{}", written.error().message);
    return *read_file(path);
  }
  GgufFile reopened(const GgufWriter& writer) {
    (void)bytes_of(writer);
    Result<GgufFile> file = GgufFile::open(folder_.path("written.gguf"));
    SPATE_CHECK(file.ok(), "{}", file.error().message);
    return std::move(file).value();
  }

  testing::TemporaryFolder folder_;
};

GgufWriter every_type() {
  GgufWriter writer;
  writer.set("general.architecture", "test");
  writer.set("u8", uint8_t{255});
  writer.set("i8", int8_t{-1});
  writer.set("u16", uint16_t{65535});
  writer.set("i16", int16_t{-2});
  writer.set("u32", uint32_t{3});
  writer.set("i32", int32_t{-3});
  writer.set("u64", ~uint64_t{0});
  writer.set("i64", int64_t{-4});
  writer.set("f32", 0.1f);
  writer.set("f64", 0.1);
  writer.set("bool", true);
  writer.set("string", std::string("caf\xC3\xA9"));
  writer.set("u8s", std::vector<uint8_t>{1, 255});
  writer.set("i16s", std::vector<int16_t>{-1, 2});
  writer.set("u32s", std::vector<uint32_t>{7});
  writer.set("i64s", std::vector<int64_t>{-9, 9});
  writer.set("f32s", std::vector<float>{0.5f, -0.5f});
  writer.set("f64s", std::vector<double>{1e300});
  writer.set("bools", std::vector<bool>{true, false, true});
  writer.set("strings", std::vector<std::string>{"a", "", "ccc"});
  writer.set("none", std::vector<std::string>{});
  return writer;
}

TEST_F(GgufWriterTest, EveryValueType_ReadsBackInItsOwnType) {
  const GgufFile file = reopened(every_type());
  EXPECT_EQ(file.version(), 3u);
  const GgufType types[] = {GgufType::kString, GgufType::kU8,   GgufType::kI8,    GgufType::kU16, GgufType::kI16,
                            GgufType::kU32,    GgufType::kI32,  GgufType::kU64,   GgufType::kI64, GgufType::kF32,
                            GgufType::kF64,    GgufType::kBool, GgufType::kString};
  for (size_t i = 0; i < std::size(types); ++i)
    EXPECT_EQ(file.metadata_types()[i], types[i]) << file.metadata()[i].first;
  EXPECT_EQ(std::get<uint64_t>(*file.find("u8")), 255u);
  EXPECT_EQ(std::get<int64_t>(*file.find("i8")), -1);
  EXPECT_EQ(std::get<uint64_t>(*file.find("u64")), ~uint64_t{0});
  EXPECT_EQ(std::get<int64_t>(*file.find("i64")), -4);
  EXPECT_EQ(std::get<double>(*file.find("f32")), static_cast<double>(0.1f));
  EXPECT_EQ(std::get<double>(*file.find("f64")), 0.1);
  EXPECT_EQ(std::get<bool>(*file.find("bool")), true);
  EXPECT_EQ(**file.string("string"), "caf\xC3\xA9");
  EXPECT_EQ((*file.array("u8s"))->integer(1), 255);
  EXPECT_EQ((*file.array("i16s"))->integer(0), -1);
  EXPECT_EQ((*file.array("i64s"))->integer(0), -9);
  EXPECT_EQ((*file.array("f32s"))->number(1), -0.5);
  EXPECT_EQ((*file.array("f64s"))->number(0), 1e300);
  EXPECT_EQ((*file.array("bools"))->element_type, GgufType::kBool);
  EXPECT_EQ((*file.array("bools"))->integer(2), 1);
  EXPECT_EQ((*file.array("strings"))->strings, (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_EQ((*file.array("none"))->element_type, GgufType::kString);
}

TEST_F(GgufWriterTest, Bytes_AreThoseOfTheSpecification) {
  GgufWriter writer;
  writer.set("a.b", uint32_t{5});
  writer.add_tensor("w", QuantType::kQ4_0, {32, 2}, std::vector<std::byte>(36, std::byte{7}));
  writer.add_tensor("v", {2}, {1.0f, 2.0f});
  const std::string expected = testing::GgufBuilder()
                                   .header(2, 1)
                                   .key("a.b", 4)
                                   .put(5u)
                                   .tensor("w", {32, 2}, 2, 0)
                                   .tensor("v", {2}, 0, 64)
                                   .pad()
                                   .bytes(std::string(36, '\7'))
                                   .pad()
                                   .put(1.0f)
                                   .put(2.0f)
                                   .pad()
                                   .text();
  EXPECT_EQ(bytes_of(writer), expected);
  EXPECT_EQ(bytes_of(writer), expected);  // and again
}

TEST_F(GgufWriterTest, SetAgain_ReplacesInPlace_AndRemoveForgets) {
  GgufWriter writer;
  writer.set("a", uint32_t{1});
  writer.set("b", "text");
  writer.set("a", "now a string");
  writer.set("c", true);
  writer.remove("c");
  writer.remove("absent");
  writer.add_tensor("w", {1}, {1.0f});
  writer.add_tensor("v", {1}, {2.0f});
  writer.remove_tensor("w");
  const GgufFile file = reopened(writer);
  ASSERT_EQ(file.metadata().size(), 2u);
  EXPECT_EQ(file.metadata()[0].first, "a");
  EXPECT_EQ(**file.string("a"), "now a string");
  ASSERT_EQ(file.tensors().size(), 1u);
  EXPECT_EQ(file.tensors()[0].name, "v");
}

TEST_F(GgufWriterTest, Alignment_IsThatOfTheKey) {
  GgufWriter writer;
  writer.set("general.alignment", uint32_t{256});
  writer.add_tensor("w", {1}, {1.0f});
  writer.add_tensor("v", {1}, {2.0f});
  const GgufFile file = reopened(writer);
  EXPECT_EQ(file.tensors()[0].offset % 256, 0u);
  EXPECT_EQ(file.tensors()[1].offset, file.tensors()[0].offset + 256);
}

TEST_F(GgufWriterTest, StreamedTensor_ArrivesInPiecesOfAnySize) {
  constexpr int64_t kRows = 300, kCols = 1000;
  GgufWriter writer;
  const int64_t dims[] = {kCols, kRows};
  writer.add_tensor("w", QuantType::kF32, dims, [&](GgufTensorSink& sink) -> Result<void> {
    for (int64_t row = 0; row < kRows; ++row) {
      const std::vector<float> values(kCols, static_cast<float>(row));
      const auto bytes = std::as_bytes(std::span(values));
      SPATE_TRY_VOID(sink.write(bytes.first(7)));
      SPATE_TRY_VOID(sink.write(bytes.subspan(7)));
      SPATE_TRY_VOID(sink.write({}));
    }
    return {};
  });
  const GgufFile file = reopened(writer);
  const GgufTensor& tensor = file.tensors()[0];
  ASSERT_EQ(tensor.data.size(), static_cast<size_t>(kRows * kCols * 4));
  for (int64_t row = 0; row < kRows; ++row)
    EXPECT_EQ(load_scalar<float>(tensor.data.data() + (row * kCols + row) * 4), static_cast<float>(row));
}

TEST_F(GgufWriterTest, SourceThatFails_LeavesNoFile) {
  GgufWriter writer;
  const int64_t dims[] = {8};
  writer.add_tensor("w", QuantType::kF32, dims,
                    [](GgufTensorSink&) -> Result<void> { return Error::interrupted("stopped"); });
  const Result<void> written = writer.write(folder_.path("out.gguf"));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().message, "stopped");
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path(".")));
}

TEST_F(GgufWriterTest, UnwritablePath_IsAnIoError) {
  const Result<void> written = GgufWriter().write(folder_.path("none/out.gguf"));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, ErrorCode::kIo);
}

TEST_F(GgufWriterTest, CopiedMetadata_GivesTheSameBytes_WithoutTheSplitKeys) {
  const GgufWriter original = every_type();
  const std::string bytes = bytes_of(original);
  GgufWriter copy;
  copy.copy_metadata(reopened(original));
  EXPECT_EQ(bytes_of(copy), bytes);

  GgufWriter split = every_type();
  split.set("split.count", uint16_t{1});
  split.set("split.no", uint16_t{0});
  GgufWriter whole;
  whole.copy_metadata(reopened(split));
  EXPECT_EQ(bytes_of(whole), bytes);
}

TEST_F(GgufWriterTest, BundledModelCopied_IsTheSameModel) {
  const Result<GgufFile> opened = GgufFile::open(testing::bundled_model_path());
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const GgufFile& original = *opened;
  GgufWriter writer;
  writer.copy_metadata(original);
  for (const GgufTensor& tensor : original.tensors())
    writer.add_tensor(tensor.name, tensor.type, std::span(tensor.dims).first(tensor.n_dims),
                      [&](GgufTensorSink& sink) { return sink.write(tensor.data); });
  const GgufFile copy = reopened(writer);
  ASSERT_EQ(copy.metadata().size(), original.metadata().size());
  ASSERT_EQ(copy.tensors().size(), original.tensors().size());
  for (size_t i = 0; i < copy.tensors().size(); ++i) {
    const GgufTensor &a = original.tensors()[i], &b = copy.tensors()[i];
    EXPECT_EQ(b.name, a.name);
    EXPECT_EQ(b.type, a.type);
    EXPECT_EQ(b.dims, a.dims);
    EXPECT_TRUE(std::ranges::equal(b.data, a.data)) << a.name;
  }
}

TEST(GgufWriterDeath, WhatTheFormatForbids_IsOurBug) {
  testing::TemporaryFolder folder;
  GgufWriter writer;
  writer.add_tensor("w", {1}, {1.0f});
  EXPECT_DEATH(writer.add_tensor("w", {1}, {1.0f}), "tensor 'w' twice");
  EXPECT_DEATH(writer.add_tensor("", {1}, {1.0f}), "tensor ''");
  EXPECT_DEATH(writer.add_tensor(std::string(65, 'n'), {1}, {1.0f}), "tensor 'n");
  EXPECT_DEATH(writer.add_tensor("v", {}, {1.0f}), "0 dimensions");
  EXPECT_DEATH(writer.add_tensor("v", {1, 0}, {}), "dimension 0");
  EXPECT_DEATH(writer.add_tensor("v", {2}, {1.0f}), "4 bytes of data for 8");
  EXPECT_DEATH(writer.add_tensor("v", QuantType::kQ4_0, {33}, {}), "rows of 33 for Q4_0");
  EXPECT_DEATH(writer.set("", 1.0f), "key ''");
  EXPECT_DEATH(writer.set("\xFF", 1.0f), "key '.xff'");
  const int64_t dims[] = {2};
  const auto writes = [&](size_t n_bytes) {
    GgufWriter other;
    other.add_tensor("v", QuantType::kF32, dims,
                     [n_bytes](GgufTensorSink& sink) { return sink.write(std::vector<std::byte>(n_bytes)); });
    return other.write(folder.path("v.gguf")).ok();
  };
  EXPECT_DEATH(writes(7), "left 1 bytes out");
  EXPECT_DEATH(writes(9), "9 bytes for a tensor that wants 8 more");
  writer.set("general.alignment", uint32_t{12});
  EXPECT_DEATH((void)writer.write(folder.path("w.gguf")), "general.alignment is 12");
}

}  // namespace
}  // namespace spate
