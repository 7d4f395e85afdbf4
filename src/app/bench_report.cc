#include "app/bench_report.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "app/build_info.h"
#include "bench/svg_chart.h"

namespace spate::app {

namespace {

constexpr double kGiga = 1e-9;

// What the operating system calls the processor.
std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown";
}

Json setup_json(const BenchSetup& setup) {
  Json peaks = Json::object();
  for (const MultiplyAddRate& rate : setup.peaks.rates) peaks[rate.name] = rate.per_s * kGiga;
  Json json = {{"version", SPATE_VERSION},
               {"commit", build_commit()},
               {"processor", processor_name()},
               {"device", setup.device},
               {"repeat", setup.options.repeat},
               {"spread", "median absolute deviation over the repetitions"},
               {"read_gb_s", setup.peaks.read_bytes_per_s * kGiga},
               {"peak_gmac_s",
                {{"quantised", setup.peaks.quantised_multiply_adds_per_s * kGiga},
                 {"float", setup.peaks.float_multiply_adds_per_s * kGiga},
                 {"measured", std::move(peaks)}}}};
  if (!setup.isa.empty()) {
    json["isa"] = setup.isa;
    json["threads"] = setup.n_threads;
  }
  return json;
}

double peak_of(QuantType type, const DevicePeaks& peaks) {
  return quant_traits(type).block_elems > 1 ? peaks.quantised_multiply_adds_per_s : peaks.float_multiply_adds_per_s;
}

std::string_view kernel_name(const KernelTiming& timing) {
  return timing.isa ? isa_name(*timing.isa) : "cuda";
}

// A kernel's peak is that of its own instruction set: for float types the faster of those it has.
double peak_of(const KernelTiming& timing, const DevicePeaks& peaks) {
  const bool quantised = quant_traits(timing.type).block_elems > 1;
  for (const std::string_view operands : {quantised ? "int8" : "bf16", "float32"})
    for (const MultiplyAddRate& rate : peaks.rates)
      if (rate.name == fmt::format("{} {}", kernel_name(timing), operands)) return rate.per_s;
  return peak_of(timing.type, peaks);
}

// What a kernel's timing comes to.
struct KernelRates {
  Spread seconds;
  double bytes_per_s, read_share, multiply_adds_per_s, math_share;
};

KernelRates rates_of(const KernelTiming& timing, const DevicePeaks& peaks) {
  const Spread seconds = spread_of(timing.seconds);
  const double bytes = timing.weight_bytes / seconds.median, products = timing.multiply_adds / seconds.median;
  return {.seconds = seconds,
          .bytes_per_s = bytes,
          .read_share = bytes / peaks.read_bytes_per_s,
          .multiply_adds_per_s = products,
          .math_share = products / peak_of(timing, peaks)};
}

// One line of a chart: the rows that differ in x alone.
std::string series_name(const BenchCase& c, bool x_is_batch) {
  std::string name;
  if (c.n_prompt > 0) name += fmt::format("prompt {}, ", c.n_prompt);
  if (c.n_generate > 0) name += fmt::format("generate {}, ", c.n_generate);
  return name + (x_is_batch ? fmt::format("depth {}", c.depth) : fmt::format("batch {}", c.batch));
}

ChartPanel panel_of(BenchTest test, const std::vector<BenchRow>& rows, bool x_is_batch) {
  ChartPanel panel{.title = std::string(bench_test_name(test)),
                   .x_label = x_is_batch ? "sequences in the batch" : "tokens in the KV cache beforehand",
                   .y_label = "tokens a second",
                   .series = {}};
  std::vector<std::pair<ChartSeries, ChartSeries>> lines;  // measured, and what the peaks allow
  for (const BenchRow& row : rows) {
    if (row.bench_case.test != test) continue;
    const std::string name = series_name(row.bench_case, x_is_batch);
    auto line = std::find_if(lines.begin(), lines.end(), [&](const auto& known) { return known.first.name == name; });
    if (line == lines.end())
      line = lines.insert(lines.end(), {{.name = name, .points = {}, .dashed = false},
                                        {.name = "at the measured peak", .points = {}, .dashed = true}});
    const double x = x_is_batch ? row.bench_case.batch : row.bench_case.depth;
    const double bound = row.tok_s.median / std::max(row.read_share, row.math_share);
    line->first.points.push_back({x, row.tok_s.median, row.tok_s.min, row.tok_s.max});
    line->second.points.push_back({x, bound, bound, bound});
  }
  for (auto& [measured, bound] : lines) {
    for (ChartSeries* series : {&measured, &bound})
      std::sort(series->points.begin(), series->points.end(),
                [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
    panel.series.push_back(std::move(measured));
    panel.series.push_back(std::move(bound));
  }
  return panel;
}

}  // namespace

std::string peaks_text(const DevicePeaks& peaks) {
  std::string text = fmt::format("reads {:.1f} GB/s; 10^9 multiply-adds a second:", peaks.read_bytes_per_s * kGiga);
  for (const MultiplyAddRate& rate : peaks.rates)
    text += fmt::format("{} {} {:.4g}", &rate == &peaks.rates.front() ? "" : ",", rate.name, rate.per_s * kGiga);
  return text + "\n";
}

std::string bench_table_header() {
  return fmt::format("{:<8} {:>7} {:>9} {:>6} {:>7} {:>10} {:>8} {:>10} {:>8} {:>7} {:>9} {:>7}\n", "test", "prompt",
                     "generate", "batch", "depth", "tok/s", "+- MAD", "ms/step", "GB/s", "of read", "GMAC/s",
                     "of peak");
}

std::string bench_table_row(const BenchRow& row) {
  const BenchCase& c = row.bench_case;
  return fmt::format(
      "{:<8} {:>7} {:>9} {:>6} {:>7} {:>10.2f} {:>8.2f} {:>10.2f} {:>8.2f} {:>6.1f}% {:>9.1f} {:>6.1f}%\n",
      bench_test_name(c.test), c.n_prompt, c.n_generate, c.batch, c.depth, row.tok_s.median, row.tok_s.mad,
      row.seconds / row.n_steps * 1e3, row.bytes_per_s * kGiga, row.read_share * 100, row.multiply_adds_per_s * kGiga,
      row.math_share * 100);
}

Json bench_json(const BenchSetup& setup, const std::vector<BenchRow>& rows) {
  Json json = setup_json(setup);
  json["model"] = setup.model;
  json["weight_bytes_per_step"] = setup.weight_bytes;
  json["kv_bytes_per_token"] = setup.kv_bytes_per_token;
  json["warmup"] = setup.options.warmup;
  json["step_tokens"] = setup.step_tokens;
  json["rows"] = Json::array();
  for (const BenchRow& row : rows) {
    const BenchCase& c = row.bench_case;
    json["rows"].push_back({{"test", bench_test_name(c.test)},
                            {"n_prompt", c.n_prompt},
                            {"n_generate", c.n_generate},
                            {"batch", c.batch},
                            {"depth", c.depth},
                            {"tok_s", row.tok_s.median},
                            {"tok_s_mad", row.tok_s.mad},
                            {"tok_s_min", row.tok_s.min},
                            {"tok_s_max", row.tok_s.max},
                            {"n_steps", row.n_steps},
                            {"ms_per_step", row.seconds / row.n_steps * 1e3},
                            {"gb_s", row.bytes_per_s * kGiga},
                            {"gmac_s", row.multiply_adds_per_s * kGiga},
                            {"peak_share", row.peak_share},
                            {"read_share", row.read_share},
                            {"math_share", row.math_share}});
  }
  return json;
}

std::string bench_chart(const BenchSetup& setup, const std::vector<BenchRow>& rows) {
  std::set<int> batches, depths;
  std::vector<BenchTest> tests;
  for (const BenchRow& row : rows) {
    batches.insert(row.bench_case.batch);
    depths.insert(row.bench_case.depth);
    if (std::find(tests.begin(), tests.end(), row.bench_case.test) == tests.end()) tests.push_back(row.bench_case.test);
  }
  const bool x_is_batch = batches.size() > 1 || depths.size() == 1;
  std::vector<ChartPanel> panels;
  panels.reserve(tests.size());
  for (const BenchTest test : tests) panels.push_back(panel_of(test, rows, x_is_batch));
  const size_t slash = setup.model.rfind('/');
  return svg_chart(escape_control(slash == std::string::npos ? setup.model : setup.model.substr(slash + 1)),
                   fmt::format("{}; {}; reads {:.1f} GB/s; spate {} ({}); bars: least and most of {} repetitions",
                               processor_name(), setup.device, setup.peaks.read_bytes_per_s * kGiga, SPATE_VERSION,
                               build_commit(), setup.options.repeat),
                   panels);
}

std::string kernel_table_header() {
  return fmt::format("{:<8} {:<7} {:>13} {:>7} {:>10} {:>8} {:>8} {:>9} {:>8}\n", "isa", "type", "rows x cols",
                     "tokens", "ms", "GB/s", "of read", "GMAC/s", "of peak");
}

std::string kernel_table_row(const KernelTiming& timing, const DevicePeaks& peaks) {
  const KernelRates rates = rates_of(timing, peaks);
  return fmt::format("{:<8} {:<7} {:>13} {:>7} {:>10.3f} {:>8.2f} {:>7.1f}% {:>9.1f} {:>7.1f}%\n", kernel_name(timing),
                     quant_name(timing.type), fmt::format("{} x {}", timing.shape.n_rows, timing.shape.n_cols),
                     timing.n_tokens, rates.seconds.median * 1e3, rates.bytes_per_s * kGiga, rates.read_share * 100,
                     rates.multiply_adds_per_s * kGiga, rates.math_share * 100);
}

Json kernel_json(const BenchSetup& setup, const std::vector<KernelTiming>& timings) {
  Json json = setup_json(setup);
  json["kernels"] = Json::array();
  for (const KernelTiming& timing : timings) {
    const KernelRates rates = rates_of(timing, setup.peaks);
    json["kernels"].push_back({{"isa", kernel_name(timing)},
                               {"type", quant_name(timing.type)},
                               {"n_rows", timing.shape.n_rows},
                               {"n_cols", timing.shape.n_cols},
                               {"n_tokens", timing.n_tokens},
                               {"pass_bytes", timing.weight_bytes},
                               {"ms", rates.seconds.median * 1e3},
                               {"ms_mad", rates.seconds.mad * 1e3},
                               {"gb_s", rates.bytes_per_s * kGiga},
                               {"read_share", rates.read_share},
                               {"gmac_s", rates.multiply_adds_per_s * kGiga},
                               {"math_share", rates.math_share}});
  }
  return json;
}

}  // namespace spate::app
