#include "base/cpu_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

namespace spate {
namespace {

using ::testing::HasSubstr;

TEST(Isa, Portable_IsAlwaysThere_AndLevelsIncludeTheOnesBefore) {
  EXPECT_TRUE(isa_supported(Isa::kPortable));
  bool higher_may_be = true;
  for (Isa isa : kAllIsas) {
    EXPECT_TRUE(higher_may_be || !isa_supported(isa)) << isa_name(isa);
    higher_may_be = isa_supported(isa);
  }
}

TEST(Isa, Best_IsTheHighestSupported) {
  const Isa best = best_isa();
  EXPECT_TRUE(isa_supported(best));
  for (Isa isa : kAllIsas) EXPECT_TRUE(isa <= best || !isa_supported(isa)) << isa_name(isa);
}

TEST(Isa, FromName_SupportedNames_RoundTrip) {
  for (Isa isa : kAllIsas) {
    if (!isa_supported(isa)) continue;
    EXPECT_EQ(*isa_from_name(isa_name(isa)), isa);
  }
  EXPECT_EQ(*isa_from_name(""), best_isa());
}

TEST(Isa, FromName_UnknownName_IsAUsageErrorListingTheSupported) {
  for (const char* name : {"sse2", "AVX2", "avx2 ", "?"}) {
    const Result<Isa> isa = isa_from_name(name);
    ASSERT_FALSE(isa.ok()) << name;
    EXPECT_EQ(isa.error().code, ErrorCode::kUsage);
    EXPECT_THAT(isa.error().message, HasSubstr(fmt::format("'{}'", name)));
    for (Isa known : kAllIsas) {
      const std::string list = isa.error().message.substr(isa.error().message.find("one of:"));
      const bool listed = list.find(isa_name(known)) != std::string::npos;
      EXPECT_EQ(listed, isa_supported(known)) << list;
    }
  }
}

TEST(Isa, FromName_LevelThatThisProcessorLacks_IsAUsageError) {
  for (Isa isa : kAllIsas) {
    if (isa_supported(isa)) continue;
    const Result<Isa> result = isa_from_name(isa_name(isa));
    ASSERT_FALSE(result.ok()) << isa_name(isa);
    EXPECT_THAT(result.error().message, HasSubstr("not available on this processor"));
  }
}

TEST(PhysicalCores, AreAtLeastOne_AndAtMostTheProcessors) {
  EXPECT_GE(physical_cores(), 1);
  EXPECT_LE(physical_cores(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace spate
