// Every rule that the reader checks, broken in turn.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "gguf/gguf_file.h"

#include "support/gguf_builder.h"
#include "support/test_data.h"

namespace spate {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kHuge = ~uint64_t{0};
constexpr uint32_t kU8 = 0, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10;
constexpr uint32_t kTypeF32 = 0, kTypeQ4_0 = 2, kTypeQ4_K = 12, kTypeF64 = 28;

struct BadFile {
  std::string name;
  std::string bytes;
  std::vector<std::string> says;  // all of them in the message
  ErrorCode code = ErrorCode::kBadFile;
};

void PrintTo(const BadFile& bad, std::ostream* out) {
  *out << bad.name;
}

// A file with one metadata entry, in the making; 24 bytes so far.
GgufBuilder entry() {
  return GgufBuilder().header(0, 1);
}

std::string with_alignment(uint32_t alignment) {
  return entry().key("general.alignment", kU32).put(alignment).text();
}

// A file with one tensor and n_data_bytes of data.
std::string with_tensor(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type, uint64_t offset,
                        size_t n_data_bytes) {
  return GgufBuilder().header(1, 0).tensor(name, dims, type, offset).pad().data(n_data_bytes).text();
}

// A file with two tensors of 8 floats.
std::string with_two_tensors(std::string_view a, uint64_t offset_a, std::string_view b, uint64_t offset_b,
                             size_t n_data_bytes) {
  return GgufBuilder()
      .header(2, 0)
      .tensor(a, {16}, kTypeF32, offset_a)
      .tensor(b, {16}, kTypeF32, offset_b)
      .pad()
      .data(n_data_bytes)
      .text();
}

std::vector<BadFile> bad_headers() {
  const std::string filler(200, '\1');
  return {
      {"Empty", "", {"not a GGUF file: it has 0 bytes"}},
      {"ThreeBytes", "GGU", {"not a GGUF file: it has 3 bytes"}},
      {"OtherMagic", "PK\3\4" + filler, {"not a GGUF file: it starts with 'PK\\x03\\x04'"}},
      {"GgmlMagic", "lmgg" + filler, {"from before GGUF", "convert it"}, ErrorCode::kUnsupported},
      {"GgjtMagic", "tjgg" + filler, {"from before GGUF", "convert it"}, ErrorCode::kUnsupported},
      {"BigEndianMagic", "FUGG" + filler, {"big-endian"}, ErrorCode::kUnsupported},
      {"NoVersion", "GGUF", {"ends inside the version", "at byte 4"}},
      {"Version0", GgufBuilder().header(0, 0, 0).text(), {"version 0 does not exist", "at byte 4"}},
      {"Version1", GgufBuilder().header(0, 0, 1).text(), {"GGUF version 1", "convert"}, ErrorCode::kUnsupported},
      {"Version4", GgufBuilder().header(0, 0, 4).text(), {"GGUF version 4"}, ErrorCode::kUnsupported},
      {"VersionAllOnes", GgufBuilder().header(0, 0, ~0u).text(), {"GGUF version 4294967295"}, ErrorCode::kUnsupported},
      {"BigEndian3", GgufBuilder().header(0, 0, 3u << 24).text(), {"big-endian"}, ErrorCode::kUnsupported},
      {"BigEndian2", GgufBuilder().header(0, 0, 2u << 24).text(), {"big-endian"}, ErrorCode::kUnsupported},
      {"NoCounts", GgufBuilder().bytes("GGUF").put(3u).text(), {"ends inside the number of tensors", "at byte 8"}},
      {"NoMetadataCount",
       GgufBuilder().bytes("GGUF").put(3u).put(uint64_t{0}).put(1u).text(),
       {"ends inside the number of metadata entries", "at byte 16"}},
      {"TensorCountAllOnes",
       GgufBuilder().header(kHuge, 0).bytes(filler).text(),
       {"18446744073709551615 tensors cannot fit in the 208 bytes", "at byte 8"}},
      {"TensorCountSignBit",
       GgufBuilder().header(uint64_t{1} << 63, 0).bytes(filler).text(),
       {"9223372036854775808 tensors cannot fit", "at byte 8"}},
      {"TensorCountOneTooMany",
       GgufBuilder().header(7, 0).bytes(filler).text(),
       {"7 tensors cannot fit in the 208 bytes", "at byte 8"}},
      {"MetadataCountAllOnes",
       GgufBuilder().header(0, kHuge).bytes(filler).text(),
       {"18446744073709551615 metadata entries cannot fit in the 200 bytes", "at byte 16"}},
      {"MetadataCountOneTooMany",
       GgufBuilder().header(0, 15).bytes(filler).text(),
       {"15 metadata entries cannot fit in the 200 bytes", "at byte 16"}},
      {"MetadataCountAboveTheLimit",
       GgufBuilder().header(0, 65537).data(1 << 20).text(),
       {"65537 metadata entries; spate reads at most 65536", "at byte 16"}},
      {"TensorCountAboveTheLimit",
       GgufBuilder().header(131073, 0).data(5 << 20).text(),
       {"131073 tensors; spate reads at most 131072", "at byte 8"}},
      {"MetadataCountTooHighByOne",
       GgufBuilder().header(0, 2).key("a", kString).string("some text").text(),
       {"metadata entry 2 of 2", "ends inside its key"}},
      {"MetadataCountTooLowByOne",  // the second entry is taken for a tensor: its type id for a number of dimensions
       GgufBuilder().header(1, 1).key("a", kU8).put('x').key("bb", kString).string("some longer text").data(99).text(),
       {"tensor 'bb'", "8 dimensions"}},
  };
}

std::vector<BadFile> bad_keys_and_strings() {
  const std::string long_key(65536, 'k');
  return {
      {"KeyLengthAllOnes",
       entry().put(kHuge).data(99).text(),
       {"metadata entry 1 of 1", "its key claims 18446744073709551615 bytes, but 99 follow", "at byte 24"}},
      {"KeyLengthOneTooMany", entry().put(uint64_t{100}).data(99).text(), {"claims 100 bytes, but 99", "at byte 24"}},
      {"KeyEmpty", entry().key("", kU32).put(1u).text(), {"metadata entry 1 of 1: its key is empty", "at byte 24"}},
      {"KeyTooLong", entry().key(long_key, kU8).put('x').text(), {"its key has 65536 bytes; at most 65535"}},
      {"KeyInvalidUtf8",
       entry().key("general\xFF", kU32).put(1u).text(),
       {"its key 'general\\xff' is not valid UTF-8", "at byte 24"}},
      {"KeySurrogate", entry().key("\xED\xA0\x80", kU32).put(1u).text(), {"'\\xed\\xa0\\x80' is not valid UTF-8"}},
      {"KeyTwice",
       GgufBuilder().header(0, 2).key("a.b", kU32).put(1u).key("a.b", kU32).put(1u).text(),
       {"metadata entry 2 of 2: its key 'a.b' was there before", "at byte 43"}},
      {"KeyWithControlCharacters",
       entry().key("a\nb\x1b[2J", 99).data(9).text(),
       {"key 'a\\x0ab\\x1b[2J': the value's type id 99 does not exist"}},
      {"ValueType13", entry().key("a.b", 13).data(99).text(), {"key 'a.b': the value's type id 13", "at byte 35"}},
      {"ValueTypeAllOnes", entry().key("a.b", ~0u).data(99).text(), {"key 'a.b': the value's type id 4294967295"}},
      {"NothingAfterKey", entry().string("a.bcdef").text(), {"key 'a.bcdef'", "ends inside its value's type"}},
      {"StringLengthAllOnes",
       entry().key("a.b", kString).put(kHuge).data(99).text(),
       {"key 'a.b': its value claims 18446744073709551615 bytes, but 99 follow", "at byte 39"}},
      {"StringLengthOneTooMany",
       entry().key("a.b", kString).put(uint64_t{10}).bytes("123456789").text(),
       {"key 'a.b': its value claims 10 bytes, but 9 follow", "at byte 39"}},
      {"Bool2",
       entry().key("a.b", kBool).put('\2').text(),
       {"key 'a.b': a bool is 2; it must be 0 or 1", "at byte 39"}},
      {"Bool255", entry().key("a.b", kBool).put('\xFF').text(), {"key 'a.b': a bool is 255"}},
  };
}

// Each scalar type with its value cut off by one byte.
std::vector<BadFile> cut_off_scalars() {
  const int n_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};  // by type id; strings and arrays are elsewhere
  std::vector<BadFile> all;
  for (uint32_t type = 0; type < std::size(n_bytes); ++type) {
    if (n_bytes[type] == 0) continue;
    all.push_back({fmt::format("CutOffScalarOfType{}", type),
                   entry().key("a.b", type).bytes(std::string(n_bytes[type] - 1, '\0')).text(),
                   {"key 'a.b': the file ends inside its value", "at byte 39"}});
  }
  return all;
}

std::vector<BadFile> bad_arrays() {
  GgufBuilder nested = entry().key("deep", kArray);
  for (int i = 0; i < 100'000; ++i) nested.array(kArray, 1);
  const auto array = [](uint32_t type, uint64_t size) { return entry().key("a.b", kArray).array(type, size); };
  return {
      {"ArrayWithoutType", entry().key("a.b", kArray).text(), {"key 'a.b': the file ends inside its value's type"}},
      {"ArrayWithoutLength",
       entry().key("a.b", kArray).put(kU32).text(),
       {"key 'a.b': the file ends inside its array's length", "at byte 43"}},
      {"ArrayOfType13",
       array(13, 1).data(9).text(),
       {"key 'a.b': the value's type id 13 does not exist", "at byte 39"}},
      {"ArrayOfArrays", array(kArray, 1).array(kU8, 1).put('x').text(), {"key 'a.b'", "array of arrays", "at byte 39"}},
      {"ArraysNested100000Deep", nested.text(), {"key 'deep'", "array of arrays"}},
      {"ArrayLengthAllOnesOfU8", array(kU8, kHuge).data(99).text(), {"array of 18446744073709551615 u8 cannot fit"}},
      {"ArrayLengthThatOverflows",  // times 8 bytes is 0 in 64 bits
       array(kU64, uint64_t{1} << 61).data(99).text(),
       {"key 'a.b'", "array of 2305843009213693952 u64 cannot fit in the 99 bytes", "at byte 39"}},
      {"ArrayOneElementTooLong", array(kF32, 4).data(15).text(), {"array of 4 f32 cannot fit in the 15 bytes"}},
      {"ArrayOfManyStrings",
       array(kString, uint64_t{1} << 60).data(99).text(),
       {"key 'a.b'", "array of 1152921504606846976 string cannot fit in the 99 bytes"}},
      {"ArrayOfTooManyBools", array(kBool, 100).data(99).text(), {"array of 100 bool cannot fit"}},
      {"ArrayOfBoolsWithA2",
       array(kBool, 3).bytes(std::string("\1\0\2", 3)).text(),
       {"key 'a.b': a bool is 2", "at byte 53"}},
      {"ArrayWithALongString",
       array(kString, 2).string("fine").put(uint64_t{6}).bytes("12345").text(),
       {"key 'a.b': a string of its array claims 6 bytes, but 5 follow", "at byte 63"}},
      {"ArrayWithAStringOfAllOnes",
       array(kString, 1).put(kHuge).text(),
       {"key 'a.b': a string of its array claims 18446744073709551615 bytes, but 0 follow"}},
      {"ArrayEndingBetweenStrings",
       array(kString, 2).string("123456789").text(),
       {"key 'a.b': the file ends inside a string of its array"}},
  };
}

std::vector<BadFile> bad_alignments() {
  const std::string key = "key 'general.alignment' is ";
  return {
      {"Alignment0", with_alignment(0), {key + "0; it must be an integer from 8 to 1048576"}},
      {"Alignment1", with_alignment(1), {key + "1;"}},
      {"Alignment4", with_alignment(4), {key + "4;"}},
      {"Alignment12", with_alignment(12), {key + "12; it must be a power of two"}},
      {"Alignment24", with_alignment(24), {key + "24; it must be a power of two"}},
      {"AlignmentHuge", with_alignment(1u << 31), {key + "2147483648;"}},
      {"AlignmentNegative", entry().key("general.alignment", kI32).put(-32).text(), {key + "-32;"}},
      {"AlignmentU64AllOnes",
       entry().key("general.alignment", kU64).put(kHuge).text(),
       {key + "18446744073709551615;"}},
      {"AlignmentFloat", entry().key("general.alignment", kF32).put(32.0f).text(), {key + "the float 32;"}},
      {"AlignmentString", entry().key("general.alignment", kString).string("32").text(), {key + "the string '32';"}},
      {"AlignmentArray",
       entry().key("general.alignment", kArray).array(kU32, 1).put(32u).text(),
       {key + "an array of 1 u32;"}},
  };
}

std::vector<BadFile> bad_tensor_entries() {
  const std::string name65(65, 'n');
  const uint64_t big = uint64_t{1} << 32, sign = uint64_t{1} << 63;
  std::vector<BadFile> all = {
      {"NameLengthAllOnes",
       GgufBuilder().header(1, 0).put(kHuge).data(99).text(),
       {"tensor entry 1 of 1: its name claims 18446744073709551615 bytes", "at byte 24"}},
      {"NameEmpty", with_tensor("", {8}, kTypeF32, 0, 32), {"tensor entry 1 of 1: its name is empty", "at byte 24"}},
      {"NameTooLong", with_tensor(name65, {8}, kTypeF32, 0, 32), {"has 65 bytes; at most 64"}},
      {"NameInvalidUtf8", with_tensor("w\xC0\x80", {8}, kTypeF32, 0, 32), {"'w\\xc0\\x80' is not valid UTF-8"}},
      {"NameTwice",
       with_two_tensors("w", 0, "w", 64, 128),
       {"tensor entry 2 of 2: its name 'w' was there before", "at byte 57"}},
      {"NoDims", with_tensor("w", {}, kTypeF32, 0, 32), {"tensor 'w': 0 dimensions", "at byte 33"}},
      {"FiveDims",
       with_tensor("w", {8, 1, 1, 1, 1}, kTypeF32, 0, 32),
       {"tensor 'w': 5 dimensions; it must have 1 to 4"}},
      {"DimsAllOnes",
       GgufBuilder().header(1, 0).string("w").put(~0u).data(99).text(),
       {"tensor 'w': 4294967295 dimensions"}},
      {"FirstDim0", with_tensor("w", {0, 8}, kTypeF32, 0, 32), {"tensor 'w': dimension 0 is 0", "at byte 37"}},
      {"LastDim0", with_tensor("w", {8, 1, 1, 0}, kTypeF32, 0, 32), {"tensor 'w': dimension 3 is 0", "at byte 61"}},
      {"DimSignBit",
       with_tensor("w", {sign}, kTypeF32, 0, 32),
       {"tensor 'w': dimension 0, 9223372036854775808, makes"}},
      {"DimAllOnes", with_tensor("w", {8, kHuge}, kTypeF32, 0, 32), {"tensor 'w': dimension 1, 18446744073709551615"}},
      {"ProductOverflows",
       with_tensor("w", {big, big}, kTypeF32, 0, 32),
       {"tensor 'w': dimension 1, 4294967296, makes"}},
      {"ProductOverflowsTo0InFour",
       with_tensor("w", {65536, 65536, 65536, 65536}, kTypeF32, 0, 32),
       {"tensor 'w': dimension 3, 65536, makes more elements than 63 bits"}},
      {"BytesOverflow", with_tensor("w", {sign / 2}, kTypeF64, 0, 32), {"tensor 'w': its size overflows 64 bits"}},
      {"RowsOfPartialQ4_0",
       with_tensor("w", {33, 2}, kTypeQ4_0, 0, 99),
       {"tensor 'w': rows of 33 elements", "Q4_0's 32"}},
      {"RowsOfPartialQ4_K", with_tensor("w", {128, 2}, kTypeQ4_K, 0, 144), {"tensor 'w': rows of 128", "Q4_K's 256"}},
  };
  for (uint32_t type : {4u, 5u, 31u, 36u, 77u, ~0u})
    all.push_back({fmt::format("TensorType{}", type),
                   with_tensor("w", {256}, type, 0, 1024),
                   {fmt::format("tensor 'w': type id {} is unknown", type), "at byte 45"}});
  return all;
}

std::vector<BadFile> bad_tensor_data() {
  const uint64_t last = ~uint64_t{31};
  return {
      {"OffsetUnaligned",
       with_tensor("w", {8}, kTypeF32, 16, 48),
       {"tensor 'w': offset 16 is no multiple of the alignment, 32", "at byte 49"}},
      {"OffsetUnalignedTo64",
       GgufBuilder()
           .header(1, 1)
           .key("general.alignment", kU32)
           .put(64u)
           .tensor("w", {8}, kTypeF32, 32)
           .pad(64)
           .data(99)
           .text(),
       {"tensor 'w': offset 32 is no multiple of the alignment, 64"}},
      {"OffsetWrapsAround", with_tensor("w", {8}, kTypeF32, last, 32), {"tensor 'w': its data starts", "past the end"}},
      {"OffsetPastTheEnd",
       with_tensor("w", {8}, kTypeF32, 64, 32),
       {"tensor 'w': its data starts 32 bytes past the end of the file (96 bytes)"}},
      {"OffsetAtTheEnd", with_tensor("w", {8}, kTypeF32, 32, 32), {"tensor 'w'", "ends 32 bytes past the end"}},
      {"DataShortByOneByte",
       with_tensor("w", {8}, kTypeF32, 0, 31),
       {"tensor 'w': its data, 32 bytes at byte 64, ends 1 bytes past the end of the file"}},
      {"DataFarTooShort",
       with_tensor("w", {1 << 20, 1 << 20}, kTypeF32, 0, 32),
       {"tensor 'w': its data, 4398046511104"}},
      {"DataAbsent",
       GgufBuilder().header(1, 0).tensor("w", {8}, kTypeF32, 0).text(),
       {"tensor 'w': the file ends (at byte 57) before the data"}},
      {"PaddingAlone", with_tensor("w", {8}, kTypeF32, 0, 0), {"tensor 'w'", "ends 32 bytes past the end"}},
      {"SameOffset", with_two_tensors("w", 0, "v", 0, 128), {"tensor 'v': its data (at byte 96) overlaps", "'w'"}},
      {"PartialOverlap",
       with_two_tensors("w", 0, "v", 32, 128),
       {"tensor 'v': its data (at byte 128) overlaps", "'w'"}},
      {"OverlapInReverse", with_two_tensors("w", 32, "v", 0, 128), {"tensor 'w': its data (at byte 128)", "'v'"}},
      {"TensorCountTooHighByOne",  // zeros of the padding are taken for a name of no bytes
       GgufBuilder().header(2, 0).tensor("w", {8}, kTypeF32, 0).pad().bytes(std::string(64, '\0')).text(),
       {"tensor entry 2 of 2: its name is empty"}},
  };
}

std::vector<BadFile> all_bad_files() {
  std::vector<BadFile> all;
  for (const auto& group : {bad_headers(), bad_keys_and_strings(), cut_off_scalars(), bad_arrays(), bad_alignments(),
                            bad_tensor_entries(), bad_tensor_data()})
    all.insert(all.end(), group.begin(), group.end());
  return all;
}

class BadGgufFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadGgufFile, IsRefusedByOneClearLine) {
  const BadFile& bad = GetParam();
  testing::TemporaryFolder folder;
  const std::string path = folder.path("bad.gguf");
  testing::write_file(path, bad.bytes);
  const Result<GgufFile> file = GgufFile::open(path);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, bad.code);
  const std::string& message = file.error().message;
  EXPECT_EQ(message.find(path + ": "), 0u) << message;
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  EXPECT_LT(message.size(), path.size() + 400);
  for (const std::string& part : bad.says) EXPECT_THAT(message, HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(Corpus, BadGgufFile, ::testing::ValuesIn(all_bad_files()),
                         [](const auto& test) { return test.param.name; });

// 16 Mi and one empty strings are 128 MiB of zeros: a hole in a sparse file.
TEST(GgufLimits, MoreStringsThanTheLimit_AreRefusedBeforeTheyAreLocated) {
  testing::TemporaryFolder folder;
  const std::string path = folder.path("sparse.gguf");
  constexpr uint64_t kStrings = (1 << 24) + 1;
  const std::string head = entry().key("a.b", kArray).array(kString, kStrings).text();
  testing::write_file(path, head);
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(head.size() + 8 * kStrings)), 0);
  const Result<GgufFile> file = GgufFile::open(path);
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(file.error().message, HasSubstr("key 'a.b': more than 16777216 strings and bools"));
}

TEST(GgufLimits, MissingFile_IsAnIoErrorNamingIt) {
  testing::TemporaryFolder folder;
  const Result<GgufFile> file = GgufFile::open(folder.path("none.gguf"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, ErrorCode::kIo);
  EXPECT_EQ(file.error().message, folder.path("none.gguf") + ": No such file or directory");
}

}  // namespace
}  // namespace spate
