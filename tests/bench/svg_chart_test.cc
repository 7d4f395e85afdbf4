// Charts: what they say, and that every reader of XML can read them.
#include "bench/svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spate::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TickStep, AnyRange_GivesFourToTenRoundSteps) {
  EXPECT_EQ(tick_step(10), 2);
  EXPECT_EQ(tick_step(4), 1);
  EXPECT_EQ(tick_step(39), 5);
  EXPECT_EQ(tick_step(40), 10);
  EXPECT_EQ(tick_step(0.9), 0.2);
  for (double max = 0.001; max < 1e7; max *= 1.37) {
    const double n_ticks = max / tick_step(max);
    EXPECT_GE(n_ticks, 4 * 0.999999) << max;
    EXPECT_LE(n_ticks, 10 * 1.000001) << max;
  }
}

std::vector<ChartPanel> two_panels() {
  const ChartSeries line{.name = "depth 0 & <more>", .points = {{1, 10, 9, 11}, {8, 30, 28, 33}, {64, 35, 35, 35}}};
  const ChartSeries bound{.name = "peak", .points = {{1, 20, 20, 20}, {64, 40, 40, 40}}, .dashed = true};
  return {{.title = "decode", .x_label = "batch", .y_label = "tok/s", .series = {line, bound}},
          {.title = "prefill", .x_label = "batch", .y_label = "tok/s", .series = {line}}};
}

TEST(SvgChart, Chart_NamesAxesAndLinesAndLoadsNothing) {
  const std::string svg = svg_chart("a model", "a machine", two_panels());
  EXPECT_THAT(svg, ::testing::StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  for (const char* part : {">a model<", ">a machine<", ">decode<", ">prefill<", ">batch<", ">tok/s<", ">64<", ">40<",
                           ">depth 0 &amp; &lt;more&gt;<", ">peak<", "stroke-dasharray", "font-family=\"sans-serif\""})
    EXPECT_THAT(svg, HasSubstr(part));
  for (const char* part : {"href", "<script", "<style", "@import", "nan", "inf"})
    EXPECT_THAT(svg, Not(HasSubstr(part)));
}

TEST(SvgChart, Points_LieWhereTheirValuesAre) {
  const std::string svg = svg_chart("t", "s", {two_panels()[1]});
  // x is logarithmic from 1 to 64, so 8 is in the middle; y goes from 0 at the bottom to 40 at the top.
  const double left = 84 + 24, right = 920 - 270 - 24, bottom = 64 + 330 - 52, top = 64 + 34;
  const double step = (bottom - top) / 35;
  char expected[200];
  std::snprintf(expected, sizeof expected, "points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f \"", left, bottom - 10 * step,
                (left + right) / 2, bottom - 30 * step, right, bottom - 35 * step);
  EXPECT_THAT(svg, HasSubstr(expected));
}

TEST(SvgChart, BoundFarAbove_LeavesThePanel) {
  const ChartSeries line{.name = "measured", .points = {{1, 10, 10, 10}, {2, 12, 12, 12}}};
  const ChartSeries bound{.name = "peak", .points = {{1, 900, 900, 900}, {2, 900, 900, 900}}, .dashed = true};
  const std::string svg =
      svg_chart("t", "s", {{.title = "p", .x_label = "x", .y_label = "y", .series = {line, bound}}});
  EXPECT_THAT(svg, HasSubstr(">30<")) << "two and a half times the measurements, in whole ticks";
  EXPECT_THAT(svg, Not(HasSubstr(">900<")));
  EXPECT_THAT(svg, HasSubstr("clip-path"));
}

TEST(SvgChart, OnePointAndZero_HaveAPlace) {
  const ChartSeries one{.name = "one", .points = {{0, 0, 0, 0}}};
  EXPECT_THAT(svg_chart("t", "s", {{.title = "p", .x_label = "x", .y_label = "y", .series = {one}}}),
              Not(HasSubstr("nan")));
  const ChartSeries from_zero{.name = "depths", .points = {{0, 5, 5, 5}, {512, 4, 4, 4}, {8192, 3, 3, 3}}};
  EXPECT_THAT(svg_chart("t", "s", {{.title = "p", .x_label = "x", .y_label = "y", .series = {from_zero}}}),
              Not(HasSubstr("inf")));
}

}  // namespace
}  // namespace spate::testing
