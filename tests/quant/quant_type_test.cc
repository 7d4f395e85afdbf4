#include "quant/quant_type.h"

#include <bit>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "base/file.h"

#include "support/test_data.h"

namespace spate {
namespace {

std::string fixture_of(QuantType type) {
  return testing::fixture_path("quants/" + std::string(quant_name(type)) + ".bin");
}

// uint32 n_bytes, uint32 n_elems, n_bytes of qblocks, n_elems float32 values.
struct Golden {
  std::string qblocks;
  std::vector<float> values;
};

Golden read_golden(const std::string& path) {
  const Result<std::string> read = read_file(path);
  const std::string& file = read.value();
  uint32_t header[2];
  std::memcpy(header, file.data(), sizeof header);
  Golden golden{file.substr(sizeof header, header[0]), std::vector<float>(header[1])};
  EXPECT_EQ(file.size(), sizeof header + header[0] + header[1] * sizeof(float));
  std::memcpy(golden.values.data(), file.data() + sizeof header + header[0], header[1] * sizeof(float));
  return golden;
}

class Decode : public ::testing::TestWithParam<QuantType> {};

TEST_P(Decode, GoldenQblocks_BitExact) {
  const QuantTraits& traits = quant_traits(GetParam());
  const Golden golden = read_golden(fixture_of(GetParam()));
  const int64_t n_elems = static_cast<int64_t>(golden.values.size());
  ASSERT_EQ(static_cast<int64_t>(golden.qblocks.size()), quant_bytes(GetParam(), n_elems));
  ASSERT_GT(n_elems, 0);

  std::vector<float> out(golden.values.size(), -1e30f);
  traits.decode(reinterpret_cast<const std::byte*>(golden.qblocks.data()), n_elems / traits.block_elems, out.data());
  for (int64_t i = 0; i < n_elems; ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(golden.values[i]))
        << "element " << i << ": " << out[i] << " instead of " << golden.values[i];
}

TEST_P(Decode, UnalignedSource_SameBits) {
  const QuantTraits& traits = quant_traits(GetParam());
  const Golden golden = read_golden(fixture_of(GetParam()));
  const std::string shifted = "x" + golden.qblocks;
  std::vector<float> out(golden.values.size());
  traits.decode(reinterpret_cast<const std::byte*>(shifted.data()) + 1,
                static_cast<int64_t>(out.size()) / traits.block_elems, out.data());
  EXPECT_EQ(std::memcmp(out.data(), golden.values.data(), out.size() * sizeof(float)), 0);
}

std::vector<QuantType> types_with_fixture() {
  std::vector<QuantType> types;
  for (QuantType type : all_quant_types())
    if (std::filesystem::exists(fixture_of(type))) types.push_back(type);
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, Decode, ::testing::ValuesIn(types_with_fixture()),
                         [](const auto& tested) { return std::string(quant_name(tested.param)); });

TEST(QuantType, EveryTypeButF32AndBf16_HasAFixture) {
  // Their decode is the identity and a shift: half_test.cc and the test below cover them.
  EXPECT_EQ(types_with_fixture().size() + 2, all_quant_types().size());
}

TEST(QuantType, DecodeOfF32AndBf16_KeepsTheBits) {
  const uint16_t bf16[] = {0x3f80, 0xc049, 0x0001};
  float out[3];
  quant_traits(QuantType::kBF16).decode(reinterpret_cast<const std::byte*>(bf16), 3, out);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(std::bit_cast<uint32_t>(out[i]), uint32_t{bf16[i]} << 16);
  const float f32[] = {1.5f, -0.0f, 3e-42f};
  quant_traits(QuantType::kF32).decode(reinterpret_cast<const std::byte*>(f32), 3, out);
  EXPECT_EQ(std::memcmp(out, f32, sizeof f32), 0);
}

TEST(QuantType, FindTraits_KnowsForeignTypesByName_AndNoOthers) {
  ASSERT_NE(find_quant_traits(16), nullptr);
  EXPECT_EQ(find_quant_traits(16)->name, "IQ2_XXS");
  EXPECT_EQ(find_quant_traits(16)->decode, nullptr);
  EXPECT_EQ(find_quant_traits(4), nullptr);  // a retired id
  EXPECT_EQ(find_quant_traits(0xffffffff), nullptr);
}

TEST(QuantType, FromName_IgnoresCase_RefusesForeignTypes) {
  EXPECT_EQ(quant_type_from_name("q4_k"), QuantType::kQ4_K);
  EXPECT_EQ(quant_type_from_name("BF16"), QuantType::kBF16);
  EXPECT_EQ(quant_type_from_name("Q4_K_M"), std::nullopt);
  EXPECT_EQ(quant_type_from_name("IQ2_XXS"), std::nullopt);
}

TEST(QuantType, Bytes_CountWholeQblocks) {
  EXPECT_EQ(quant_bytes(QuantType::kQ4_K, 512), 288);
  EXPECT_EQ(quant_bytes(QuantType::kQ8_0, 0), 0);
  EXPECT_EQ(quant_bytes(QuantType::kF32, 3), 12);
}

}  // namespace
}  // namespace spate
