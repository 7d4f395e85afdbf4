#include "bench/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <iterator>
#include <set>

#include "base/check.h"

namespace spate {

namespace {

constexpr double kWidth = 920, kPanelHeight = 330, kHeader = 64;
constexpr double kLeft = 84, kRight = 270, kTop = 34, kBottom = 52;  // margins of a panel's axes
constexpr double kBoundRoom = 2.5;  // the y axis goes to this multiple of the measurements at most, for bounds
// Distinguishable with the common kinds of colour blindness (Okabe and Ito 2008), the yellow left out.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

std::string number(double value) {
  return value >= 1e6 ? fmt::format("{:g}M", value / 1e6) : fmt::format("{:g}", value);
}

// Where the panel's values lie on the page.
class Axes {
 public:
  Axes(const ChartPanel& panel, double top) : top_(top + kTop), bottom_(top + kPanelHeight - kBottom) {
    double max_bound = 0;
    for (const ChartSeries& series : panel.series)
      for (const ChartPoint& point : series.points) {
        SPATE_CHECK(std::isfinite(point.x) && std::isfinite(point.y) && point.x >= 0 && point.y >= 0,
                    "a point at {}, {}", point.x, point.y);
        xs_.insert(point.x);
        double& largest = series.dashed ? max_bound : max_y_;
        largest = std::max({largest, point.y, point.high});
      }
    // A bound far above what was measured leaves the panel rather than flatten the rest.
    max_y_ = max_y_ == 0 ? max_bound : std::max(max_y_, std::min(max_bound, kBoundRoom * max_y_));
    SPATE_CHECK(!xs_.empty(), "a panel without a point");
    const auto positive = xs_.upper_bound(0);
    logarithmic_ = positive != xs_.end() && *xs_.rbegin() / *positive >= 8;
    smallest_ = positive == xs_.end() ? 1 : *positive;
    if (max_y_ == 0) max_y_ = 1;
    const double step = tick_step(max_y_);
    max_y_ = std::ceil(max_y_ / step) * step;
  }

  const std::set<double>& xs() const { return xs_; }
  double max_y() const { return max_y_; }
  double top() const { return top_; }
  double bottom() const { return bottom_; }
  double left() const { return kLeft; }
  double right() const { return kWidth - kRight; }

  double x(double value) const {
    const double low = scaled(*xs_.begin()), high = scaled(*xs_.rbegin());
    const double inset = 24;  // so that no marker sits on an axis
    if (high == low) return (left() + right()) / 2;
    return left() + inset + (scaled(value) - low) / (high - low) * (right() - left() - 2 * inset);
  }
  double y(double value) const { return bottom_ - value / max_y_ * (bottom_ - top_); }

 private:
  // 0 has no logarithm: it stands a factor of two left of the smallest.
  double scaled(double value) const { return logarithmic_ ? std::log2(value > 0 ? value : smallest_ / 2) : value; }

  double top_, bottom_;
  std::set<double> xs_;
  double max_y_ = 0, smallest_ = 1;
  bool logarithmic_ = false;
};

class Writer {
 public:
  void text(double x, double y, const std::string& anchor, const std::string& text, const std::string& more = "") {
    fmt::format_to(std::back_inserter(out), "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                   anchor, more, escape(text));
  }
  void line(double x1, double y1, double x2, double y2, const std::string& style) {
    fmt::format_to(std::back_inserter(out), "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1,
                   y1, x2, y2, style);
  }

  void axes(const ChartPanel& panel, const Axes& axes) {
    fmt::format_to(
        std::back_inserter(out),
        "<clipPath id=\"{}\"><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/></clipPath>\n",
        clip_name(axes), axes.left(), axes.top(), axes.right() - axes.left(), axes.bottom() - axes.top());
    const std::string grid = "stroke=\"#dddddd\"", axis = "stroke=\"#333333\"";
    const double step = tick_step(axes.max_y());
    for (int i = 0; i * step <= axes.max_y() * 1.0001; ++i) {
      const double y = axes.y(i * step);
      line(axes.left(), y, axes.right(), y, i == 0 ? axis : grid);
      text(axes.left() - 8, y + 4, "end", number(i * step));
    }
    line(axes.left(), axes.top(), axes.left(), axes.bottom(), axis);
    for (const double x : axes.xs()) {
      line(axes.x(x), axes.bottom(), axes.x(x), axes.bottom() + 5, axis);
      text(axes.x(x), axes.bottom() + 19, "middle", number(x));
    }
    text(axes.left(), axes.top() - 14, "start", panel.title, " font-weight=\"bold\" font-size=\"14\"");
    text((axes.left() + axes.right()) / 2, axes.bottom() + 40, "middle", panel.x_label);
    const double middle = (axes.top() + axes.bottom()) / 2;
    text(22, middle, "middle", panel.y_label, fmt::format(" transform=\"rotate(-90 22 {:.1f})\"", middle));
  }

  void series(const ChartSeries& series, const Axes& axes, const std::string& colour, double legend_y) {
    const std::string stroke =
        fmt::format("stroke=\"{}\" stroke-width=\"2\"{}", colour, series.dashed ? " stroke-dasharray=\"6 4\"" : "");
    out += "<polyline fill=\"none\" " + stroke;
    if (series.dashed) out += fmt::format(" clip-path=\"url(#{})\"", clip_name(axes));
    out += " points=\"";
    for (const ChartPoint& point : series.points)
      fmt::format_to(std::back_inserter(out), "{:.1f},{:.1f} ", axes.x(point.x), axes.y(point.y));
    out += "\"/>\n";
    if (!series.dashed)
      for (const ChartPoint& point : series.points) {
        const double x = axes.x(point.x);
        line(x, axes.y(point.low), x, axes.y(point.high), fmt::format("stroke=\"{}\"", colour));
        fmt::format_to(std::back_inserter(out), "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x,
                       axes.y(point.y), colour);
      }
    const double x = axes.right() + 18;
    line(x, legend_y - 4, x + 26, legend_y - 4, stroke);
    text(x + 34, legend_y, "start", series.name);
  }

  std::string out;

 private:
  static std::string clip_name(const Axes& axes) { return fmt::format("panel{:.0f}", axes.top()); }
};

}  // namespace

double tick_step(double max) {
  SPATE_CHECK(max > 0 && std::isfinite(max), "an axis to {}", max);
  const double power = std::pow(10, std::floor(std::log10(max / 4)));
  for (const double factor : {5.0, 2.0})
    if (max / (factor * power) >= 4) return factor * power;
  return power;
}

std::string svg_chart(const std::string& title, const std::string& subtitle, const std::vector<ChartPanel>& panels) {
  const double height = kHeader + kPanelHeight * static_cast<double>(panels.size());
  Writer writer;
  writer.out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" viewBox=\"0 0 {0:g} {1:g}\" "
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n<rect width=\"{0:g}\" height=\"{1:g}\" "
      "fill=\"#ffffff\"/>\n",
      kWidth, height);
  writer.text(kLeft, 28, "start", title, " font-weight=\"bold\" font-size=\"17\"");
  writer.text(kLeft, 48, "start", subtitle, " fill=\"#555555\"");
  double top = kHeader;
  for (const ChartPanel& panel : panels) {
    const Axes axes(panel, top);
    writer.axes(panel, axes);
    size_t measured = 0, drawn = 0;
    for (const ChartSeries& series : panel.series) {
      // A bound has the colour of the measurement that it follows.
      const size_t colour = series.dashed && measured > 0 ? measured - 1 : measured++;
      writer.series(series, axes, kColours[colour % std::size(kColours)],
                    axes.top() + 14 + 20 * static_cast<double>(drawn++));
    }
    top += kPanelHeight;
  }
  return writer.out + "</svg>\n";
}

}  // namespace spate
