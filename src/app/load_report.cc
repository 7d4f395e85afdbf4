#include "app/load_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "app/build_info.h"
#include "bench/svg_chart.h"

namespace spate::app {

namespace {

using load::Arrivals;
using load::LevelSummary;
using load::Percentiles;

constexpr double kMilli = 1e3;

std::string pair_of(const Percentiles& percentiles, int digits) {
  return fmt::format("{:.{}f} / {:.{}f}", percentiles.p50 * kMilli, digits, percentiles.p99 * kMilli, digits);
}

Json percentiles_json(const Percentiles& p) {
  return {{"n", p.n},
          {"mean", p.mean * kMilli},
          {"p50", p.p50 * kMilli},
          {"p90", p.p90 * kMilli},
          {"p95", p.p95 * kMilli},
          {"p99", p.p99 * kMilli},
          {"max", p.max * kMilli}};
}

Json level_json(const LoadLevel& level) {
  const LevelSummary& s = level.summary;
  Json json = {{"arrivals", level.arrivals == Arrivals::kClosed    ? "closed"
                            : level.arrivals == Arrivals::kPoisson ? "poisson"
                                                                   : "trace"}};
  if (level.arrivals == Arrivals::kClosed) json["clients"] = static_cast<int64_t>(level.x);
  if (level.arrivals == Arrivals::kPoisson) json["rate"] = level.x;
  json["requests"] = s.n_requests;
  json["ok"] = s.n_ok;
  json["failed"] = s.n_failed();
  json["failures"] = Json::object();
  for (const auto& [kind, failures] : s.failures)
    json["failures"][kind] = {{"count", failures.n}, {"example", failures.example}};
  json["wall_s"] = s.wall_s;
  json["most_in_flight"] = s.most_in_flight;
  json["prompt_tokens"] = s.prompt_tokens;
  json["output_tokens"] = s.output_tokens;
  json["out_tok_s"] = s.output_tokens_per_s();
  json["total_tok_s"] = s.total_tokens_per_s();
  json["requests_s"] = s.requests_per_s();
  json["ttft_ms"] = percentiles_json(s.ttft);
  json["gap_ms"] = percentiles_json(s.gap);
  json["per_token_ms"] = percentiles_json(s.per_token);
  json["end_to_end_ms"] = percentiles_json(s.end_to_end);
  return json;
}

// ---- charts

using Figure = double (*)(const LoadLevel&);

ChartSeries by_level(const std::string& name, const std::vector<LoadLevel>& levels, Figure figure) {
  ChartSeries series{.name = name, .points = {}};
  for (const LoadLevel& level : levels) {
    const double y = figure(level);
    series.points.push_back({.x = level.x, .y = y, .low = y, .high = y});
  }
  return series;
}

std::vector<ChartPanel> panels_by_level(const std::vector<LoadLevel>& levels) {
  const std::string x_label = levels.front().arrivals == Arrivals::kClosed ? "clients" : "requests a second";
  const auto latency = [&](const std::string& title, Figure p50, Figure p99) {
    return ChartPanel{.title = title,
                      .x_label = x_label,
                      .y_label = "ms",
                      .series = {by_level("median", levels, p50), by_level("99th percentile", levels, p99)}};
  };
  return {{.title = "Output",
           .x_label = x_label,
           .y_label = "tokens a second",
           .series = {by_level("output tokens", levels,
                               [](const LoadLevel& l) { return l.summary.output_tokens_per_s(); })}},
          latency(
              "Time to the first token", [](const LoadLevel& l) { return l.summary.ttft.p50 * kMilli; },
              [](const LoadLevel& l) { return l.summary.ttft.p99 * kMilli; }),
          latency(
              "Gap between tokens", [](const LoadLevel& l) { return l.summary.gap.p50 * kMilli; },
              [](const LoadLevel& l) { return l.summary.gap.p99 * kMilli; })};
}

ChartPanel by_percentile(const std::string& title, const Percentiles& p) {
  ChartSeries series{.name = "this load", .points = {}};
  for (const auto& [x, y] : {std::pair{50.0, p.p50}, {90.0, p.p90}, {95.0, p.p95}, {99.0, p.p99}})
    series.points.push_back({.x = x, .y = y * kMilli, .low = y * kMilli, .high = y * kMilli});
  return {.title = title, .x_label = "percentile", .y_label = "ms", .series = {std::move(series)}};
}

}  // namespace

std::string load_table_header() {
  return fmt::format("{:<16} {:>8} {:>6} {:>10} {:>10} {:>20} {:>18} {:>18} {:>20}\n", "", "requests", "failed",
                     "out tok/s", "all tok/s", "TTFT p50 / p99 ms", "gap p50 / p99 ms", "per token", "end to end");
}

std::string load_table_row(const LoadLevel& level) {
  const LevelSummary& s = level.summary;
  std::string text =
      fmt::format("{:<16} {:>8} {:>6} {:>10.1f} {:>10.1f} {:>20} {:>18} {:>18} {:>20}\n", level.name, s.n_requests,
                  s.n_failed(), s.output_tokens_per_s(), s.total_tokens_per_s(), pair_of(s.ttft, 1), pair_of(s.gap, 2),
                  pair_of(s.per_token, 2), pair_of(s.end_to_end, 0));
  for (const auto& [kind, failures] : s.failures)
    text += fmt::format("  {} x {}: {}\n", failures.n, kind, escape_control(failures.example));
  return text;
}

Json load_json(const LoadSetup& setup, const std::vector<LoadLevel>& levels) {
  Json json = {{"version", SPATE_VERSION},
               {"commit", build_commit()},
               {"url", setup.url},
               {"api", setup.api},
               {"model", setup.model},
               {"prompt", setup.prompt},
               {"output", setup.output},
               {"prompt_unit", setup.unit},
               {"shared_prefix", setup.shared_prefix},
               {"prefixes", setup.n_prefixes},
               {"temperature", setup.temperature},
               {"seed", setup.seed},
               {"levels", Json::array()}};
  for (const LoadLevel& level : levels) json["levels"].push_back(level_json(level));
  return json;
}

std::string load_chart(const LoadSetup& setup, const std::vector<LoadLevel>& levels) {
  std::vector<LoadLevel> shown;
  std::copy_if(levels.begin(), levels.end(), std::back_inserter(shown),
               [](const LoadLevel& level) { return level.summary.n_ok > 0; });
  SPATE_CHECK(!shown.empty(), "a chart without a level");
  std::sort(shown.begin(), shown.end(), [](const LoadLevel& a, const LoadLevel& b) { return a.x < b.x; });
  const std::string subtitle = fmt::format("{}; prompts {}, answers {} tokens; spate {} ({})", setup.api, setup.prompt,
                                           setup.output, SPATE_VERSION, build_commit());
  const std::string title = escape_control(setup.url);
  if (shown.size() > 1) return svg_chart(title, subtitle, panels_by_level(shown));
  const LevelSummary& s = shown.front().summary;
  return svg_chart(fmt::format("{}: {}", title, shown.front().name), subtitle,
                   {by_percentile("Time to the first token", s.ttft), by_percentile("Gap between tokens", s.gap),
                    by_percentile("Whole answers", s.end_to_end)});
}

}  // namespace spate::app
