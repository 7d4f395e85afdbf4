#include "text/codepoint_set.h"

#include <gtest/gtest.h>

namespace spate {
namespace {

TEST(CodepointSet, JoinsOverlappingAndAdjacentRanges) {
  const CodepointSet set({{'c', 'd'}, {'a', 'b'}, {'x', 'z'}, {'y', 'y'}});
  const std::vector<CodepointRange> expected = {{'a', 'd'}, {'x', 'z'}};
  EXPECT_EQ(set.ranges(), expected);
}

TEST(CodepointSet, ComplementsAtBothEnds) {
  EXPECT_EQ(CodepointSet().complement(), CodepointSet::all());
  EXPECT_EQ(CodepointSet::all().complement(), CodepointSet());
  const CodepointSet set({{0, 'a'}, {'c', kLastCodepoint}});
  EXPECT_EQ(set.complement(), CodepointSet::single('b'));
  EXPECT_EQ(set.complement().complement(), set);
}

TEST(CodepointSet, IntersectsAndUnites) {
  const CodepointSet low({{'a', 'm'}}), high({{'k', 'z'}});
  EXPECT_EQ(low.intersected(high), CodepointSet({{'k', 'm'}}));
  EXPECT_EQ(low.united(high), CodepointSet({{'a', 'z'}}));
  EXPECT_EQ(CodepointSet::single('a').intersected(CodepointSet::single('b')), CodepointSet());
}

TEST(CodepointSet, ContainsItsEndsOnly) {
  const CodepointSet set({{'b', 'd'}, {'f', 'f'}});
  for (const char c : {'b', 'c', 'd', 'f'}) EXPECT_TRUE(set.contains(c)) << c;
  for (const char c : {'a', 'e', 'g'}) EXPECT_FALSE(set.contains(c)) << c;
  EXPECT_FALSE(CodepointSet().contains(0));
}

TEST(CodepointSet_Property, FollowsTheGeneralCategory) {
  struct Case {
    const char* name;
    char32_t inside, outside;
  };
  for (const Case& c : {Case{"L", 0x4E2D, '1'}, Case{"Lu", 'A', 'a'}, Case{"Ll", 'a', 'A'}, Case{"Lt", 0x1C5, 'A'},
                        Case{"Lm", 0x2B0, 'a'}, Case{"Lo", 0x5D0, 'a'}, Case{"M", 0x301, 'a'}, Case{"N", 0xBD, 'a'},
                        Case{"Nd", 0x662, 0xBD}, Case{"P", '!', '+'}, Case{"S", '+', '!'}, Case{"Z", ' ', '\n'}}) {
    const auto set = CodepointSet::property(c.name);
    ASSERT_TRUE(set.has_value()) << c.name;
    EXPECT_TRUE(set->contains(c.inside)) << c.name;
    EXPECT_FALSE(set->contains(c.outside)) << c.name;
  }
}

TEST(CodepointSet_Property, KnowsHanAndNothingElse) {
  const auto han = CodepointSet::property("Han");
  ASSERT_TRUE(han.has_value());
  for (const char32_t c : {0x3005, 0x3007, 0x4E00, 0x9FFF, 0x20000})
    EXPECT_TRUE(han->contains(c)) << static_cast<uint32_t>(c);
  for (const char32_t c : {0x3042, 0x30AB, 0xAC00, 0x3001}) EXPECT_FALSE(han->contains(c)) << static_cast<uint32_t>(c);
  EXPECT_FALSE(CodepointSet::property("Latin").has_value());
  EXPECT_FALSE(CodepointSet::property("").has_value());
  EXPECT_FALSE(CodepointSet::property("Lx").has_value());
}

TEST(CodepointSet_WhiteSpace, IsUnicodesAndNotTheControlSeparators) {
  const CodepointSet spaces = CodepointSet::white_space();
  for (const char32_t c : {0x09, 0x0D, 0x20, 0x85, 0xA0, 0x2003, 0x3000})
    EXPECT_TRUE(spaces.contains(c)) << static_cast<uint32_t>(c);
  for (const char32_t c : {0x08, 0x1C, 0x1F, 0x180E, 0x200B, 0xFEFF})
    EXPECT_FALSE(spaces.contains(c)) << static_cast<uint32_t>(c);
}

}  // namespace
}  // namespace spate
