#include "gguf/gguf_file.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;

constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = std::numeric_limits<int64_t>::max();

class GgufFileTest : public ::testing::Test {
 protected:
  GgufFile open(const GgufBuilder& builder) {
    const std::string path = folder_.path("model.gguf");
    testing::write_file(path, builder.text());
    Result<GgufFile> file = GgufFile::open(path);
    SPATE_CHECK(file.ok(), "{}", file.error().message);
    return std::move(file).value();
  }

  testing::TemporaryFolder folder_;
};

// Each scalar type at the ends of its range.
GgufBuilder scalars(uint32_t version) {
  return GgufBuilder()
      .header(0, 12, version)
      .key("u8", 0)
      .put(uint8_t{255})
      .key("i8", 1)
      .put(int8_t{-128})
      .key("u16", 2)
      .put(uint16_t{65535})
      .key("i16", 3)
      .put(int16_t{-32768})
      .key("u32", 4)
      .put(uint32_t{4294967295})
      .key("i32", 5)
      .put(std::numeric_limits<int32_t>::min())
      .key("f32", 6)
      .put(0.1f)
      .key("bool", 7)
      .put('\1')
      .key("string", 8)
      .string("caf\xC3\xA9")
      .key("u64", 10)
      .put(~uint64_t{0})
      .key("i64", 11)
      .put(kMin)
      .key("f64", 12)
      .put(0.1);
}

TEST_F(GgufFileTest, EveryScalarType_InBothVersions_ReadsItsValue) {
  for (uint32_t version : {2u, 3u}) {
    const GgufFile file = open(scalars(version));
    EXPECT_EQ(file.version(), version);
    const auto value = [&](std::string_view key) { return *file.find(key); };
    EXPECT_EQ(std::get<uint64_t>(value("u8")), 255u);
    EXPECT_EQ(std::get<int64_t>(value("i8")), -128);
    EXPECT_EQ(std::get<uint64_t>(value("u16")), 65535u);
    EXPECT_EQ(std::get<int64_t>(value("i16")), -32768);
    EXPECT_EQ(std::get<uint64_t>(value("u32")), 4294967295u);
    EXPECT_EQ(std::get<int64_t>(value("i32")), std::numeric_limits<int32_t>::min());
    EXPECT_EQ(std::get<double>(value("f32")), static_cast<double>(0.1f));
    EXPECT_EQ(std::get<bool>(value("bool")), true);
    EXPECT_EQ(std::get<std::string_view>(value("string")), "caf\xC3\xA9");
    EXPECT_EQ(std::get<uint64_t>(value("u64")), ~uint64_t{0});
    EXPECT_EQ(std::get<int64_t>(value("i64")), kMin);
    EXPECT_EQ(std::get<double>(value("f64")), 0.1);
    EXPECT_EQ(file.find("absent"), nullptr);
    ASSERT_EQ(file.metadata().size(), 12u);
    EXPECT_EQ(file.metadata()[4].first, "u32");  // in file order
    EXPECT_EQ(file.metadata_types()[4], GgufType::kU32);
    EXPECT_EQ(file.metadata_types()[11], GgufType::kF64);
  }
}

TEST_F(GgufFileTest, ArraysOfEveryType_ReadElementByElement) {
  GgufBuilder b;
  b.header(0, 9).key("u8", 9).array(0, 2).put(uint8_t{7}).put(uint8_t{255});
  b.key("i8", 9).array(1, 1).put(int8_t{-7}).key("i32", 9).array(5, 2).put(-1).put(3);
  b.key("f32", 9).array(6, 2).put(-0.5f).put(1.5f).key("bool", 9).array(7, 2).put('\0').put('\1');
  b.key("u64", 9).array(10, 2).put(uint64_t{5}).put(~uint64_t{0}).key("f64", 9).array(12, 1).put(1e300);
  b.key("strings", 9).array(8, 3).string("a").string("").string(std::string_view("\0x", 2)).key("none", 9).array(8, 0);
  const GgufFile file = open(b);
  const auto array = [&](std::string_view key) { return **file.array(key); };
  EXPECT_EQ(array("u8").integer(1), 255);
  EXPECT_EQ(array("i8").integer(0), -7);
  EXPECT_EQ(array("i32").integer(0), -1);
  EXPECT_EQ(array("i32").number(1), 3.0);
  EXPECT_EQ(array("f32").number(0), -0.5);
  EXPECT_FALSE(array("f32").is_integer());
  EXPECT_EQ(array("bool").integer(1), 1);
  EXPECT_TRUE(array("bool").is_integer());
  EXPECT_EQ(array("u64").integer(0), 5);
  EXPECT_EQ(array("u64").integer(1), kMax);  // too large for 63 bits
  EXPECT_EQ(array("u64").number(1), 0x1p64);
  EXPECT_EQ(array("f64").number(0), 1e300);
  EXPECT_EQ(array("strings").strings, (std::vector<std::string_view>{"a", "", std::string_view("\0x", 2)}));
  EXPECT_FALSE(array("strings").is_integer());
  EXPECT_EQ(array("none").size, 0u);
  EXPECT_EQ(array("none").element_type, GgufType::kString);
}

TEST_F(GgufFileTest, ArrayAccessOutOfRangeOrOfAnotherType_IsOurBug) {
  const GgufFile file =
      open(GgufBuilder().header(0, 2).key("n", 9).array(0, 1).put('x').key("s", 9).array(8, 1).string("t"));
  const GgufArray *numbers = *file.array("n"), *strings = *file.array("s");
  EXPECT_DEATH((void)numbers->integer(1), "element 1 of 1");
  EXPECT_DEATH((void)strings->number(0), "of type string");
  EXPECT_DEATH((void)strings->integer(0), "of type string");
}

TEST_F(GgufFileTest, Integer_InRange_IsGiven_OtherwiseTheErrorSaysWhatIsThere) {
  const GgufFile file = open(scalars(3));
  EXPECT_EQ(**file.integer("u8", 0, 255), 255);
  EXPECT_EQ(**file.integer("i64", kMin, kMax), kMin);
  EXPECT_FALSE(file.integer("absent", 0, 1)->has_value());
  struct Case {
    const char* key;
    int64_t min, max;
    const char* says;
  };
  const Case cases[] = {
      {"u8", 0, 254, "key 'u8' is 255; it must be an integer from 0 to 254"},
      {"u8", 256, 300, "key 'u8' is 255; it must be an integer from 256 to 300"},
      {"i8", 0, 10, "key 'i8' is -128; it must be an integer from 0 to 10"},
      {"u64", 0, kMax, "key 'u64' is 18446744073709551615; it must be an integer"},
      {"f32", 0, 1, "key 'f32' is the float 0.1"},
      {"bool", 0, 1, "key 'bool' is the bool true; it must be an integer"},
      {"string", 0, 1, "key 'string' is the string 'caf\xC3\xA9'"},
  };
  for (const Case& c : cases) {
    const Result<std::optional<int64_t>> result = file.integer(c.key, c.min, c.max);
    ASSERT_FALSE(result.ok()) << c.key;
    EXPECT_EQ(result.error().code, ErrorCode::kBadFile);
    EXPECT_THAT(result.error().message, HasSubstr(file.path() + ": " + c.says));
  }
}

TEST_F(GgufFileTest, Number_TakesIntegersAndFiniteFloats) {
  const float inf = std::numeric_limits<float>::infinity();
  const GgufFile file = open(GgufBuilder()
                                 .header(0, 6)
                                 .key("half", 6)
                                 .put(0.5f)
                                 .key("three", 4)
                                 .put(3u)
                                 .key("minus", 5)
                                 .put(-3)
                                 .key("nan", 6)
                                 .put(std::nanf(""))
                                 .key("inf", 12)
                                 .put(static_cast<double>(-inf))
                                 .key("text", 8)
                                 .string("1"));
  EXPECT_EQ(**file.number("half"), 0.5);
  EXPECT_EQ(**file.number("three"), 3.0);
  EXPECT_EQ(**file.number("minus"), -3.0);
  EXPECT_FALSE(file.number("absent")->has_value());
  EXPECT_THAT(file.number("nan").error().message, HasSubstr("key 'nan' is the float nan; it must be a finite number"));
  EXPECT_THAT(file.number("inf").error().message, HasSubstr("key 'inf' is the float -inf; it must be a finite number"));
  EXPECT_THAT(file.number("text").error().message,
              HasSubstr("key 'text' is the string '1'; it must be a finite number"));
}

TEST_F(GgufFileTest, BooleanStringAndArray_RefuseOtherTypes) {
  GgufBuilder b = GgufBuilder().header(0, 3).key("flag", 7).put('\0').key("text", 8).string("yes");
  const GgufFile file = open(b.key("list", 9).array(4, 2).put(1u).put(2u));
  EXPECT_EQ(**file.boolean("flag"), false);
  EXPECT_EQ(**file.string("text"), "yes");
  EXPECT_EQ((*file.array("list"))->size, 2u);
  EXPECT_FALSE(file.boolean("absent")->has_value());
  EXPECT_FALSE(file.string("absent")->has_value());
  EXPECT_EQ(*file.array("absent"), nullptr);
  EXPECT_THAT(file.boolean("text").error().message, HasSubstr("key 'text' is the string 'yes'; it must be a bool"));
  EXPECT_THAT(file.string("flag").error().message, HasSubstr("key 'flag' is the bool false; it must be a string"));
  EXPECT_THAT(file.string("list").error().message, HasSubstr("key 'list' is an array of 2 u32; it must be a string"));
  EXPECT_THAT(file.array("text").error().message, HasSubstr("key 'text' is the string 'yes'; it must be an array"));
}

TEST_F(GgufFileTest, Tensors_AreWhereTheDirectorySays) {
  const GgufFile file = open(GgufBuilder()
                                 .header(3, 1)
                                 .key("general.alignment", 4)
                                 .put(64u)
                                 .tensor("b", {32, 3}, 2, 128)  // out of order, with a gap before it
                                 .tensor("a", {4, 2, 2}, 0, 0)
                                 .tensor("f", {256}, 19, 192)  // IQ1_S, which spate only knows by name
                                 .pad(64)
                                 .data(192 + 50));
  ASSERT_EQ(file.tensors().size(), 3u);
  const GgufTensor &b = file.tensors()[0], &a = file.tensors()[1], &f = file.tensors()[2];
  const uint64_t data_begin = a.offset;
  EXPECT_EQ(data_begin % 64, 0u);
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.type, QuantType::kQ4_0);
  EXPECT_EQ(b.n_dims, 2);
  EXPECT_EQ(b.dims, (std::array<int64_t, 4>{32, 3, 1, 1}));
  EXPECT_EQ(b.n_elems(), 96);
  EXPECT_EQ(b.offset, data_begin + 128);
  EXPECT_EQ(b.data.size(), 3u * 18);
  EXPECT_EQ(b.data.data(), file.file(0).bytes().data() + b.offset);
  EXPECT_EQ(a.data.size(), 64u);
  EXPECT_EQ(quant_name(f.type), "IQ1_S");
  EXPECT_EQ(f.data.size(), 50u);
  EXPECT_EQ(file.find_tensor("a"), &a);
  EXPECT_EQ(file.find_tensor("absent"), nullptr);
  EXPECT_EQ(file.total_bytes(), file.file(0).bytes().size());
}

TEST_F(GgufFileTest, NoTensors_NeedNoPaddingAndNoData) {
  const GgufFile file = open(GgufBuilder().header(0, 1).key("a", 0).put('x'));
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_EQ(open(GgufBuilder().header(0, 0)).metadata().size(), 0u);
}

TEST_F(GgufFileTest, LongestKeyAndName_AreAccepted) {
  const std::string key(65535, 'k'), name(64, 'n');
  const GgufFile file = open(GgufBuilder().header(1, 1).key(key, 0).put('x').tensor(name, {1}, 0, 0).pad().data(4));
  EXPECT_NE(file.find(key), nullptr);
  EXPECT_NE(file.find_tensor(name), nullptr);
}

// Looking for duplicates and overlaps must not take the square of the number of entries.
TEST_F(GgufFileTest, AsManyEntriesAsAreAllowed_AreRead) {
  GgufBuilder b;
  b.header(1 << 17, 1 << 16);
  for (int i = 0; i < 1 << 16; ++i) b.key(fmt::format("key.{}", i), 4).put(static_cast<uint32_t>(i));
  for (int i = 0; i < 1 << 17; ++i) b.tensor(fmt::format("t.{}", i), {1}, 0, static_cast<uint64_t>(i) * 32);
  const GgufFile file = open(b.pad().data(size_t{32} << 17));
  EXPECT_EQ(**file.integer("key.65535", 0, kMax), 65535);
  ASSERT_NE(file.find_tensor("t.131071"), nullptr);
  EXPECT_EQ(file.find_tensor("t.131071")->offset - file.find_tensor("t.0")->offset, 131071u * 32);
}

}  // namespace
}  // namespace spate
