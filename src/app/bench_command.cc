// spate bench: how fast a model runs, and how close to what the device can do.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/bench_report.h"
#include "app/command.h"
#include "app/gpu.h"
#include "app/interrupt.h"
#include "app/list_option.h"
#include "app/load.h"
#include "app/options.h"
#include "app/progress_bar.h"
#include "app/standard_output.h"
#include "base/file.h"
#include "base/log.h"
#include "bench/bench_run.h"

namespace spate::app {

namespace {

constexpr int kMaxTokens = 1 << 24;  // of a prompt, a generation or a depth
constexpr int kMaxSide = 1 << 20;    // rows or columns of a kernel's shape
constexpr const char* kCasesGroup = "Cases (each a list: 1,8,32)";
constexpr const char* kKernelsGroup = "Kernels";

struct BenchCommandOptions {
  std::string model;
  BenchLists lists{.tests = {BenchTest::kPrefill, BenchTest::kDecode, BenchTest::kMixed},
                   .prompt = {512},
                   .generate = {32},
                   .batch = {1},
                   .depth = {0}};
  BenchOptions measure;
  int step_tokens = 512;
  DeviceOptions device;
  bool json = false;
  std::string plot;
  bool kernels = false;
  std::vector<QuantType> kernel_types;
  std::vector<int> kernel_tokens = {1, 2, 4, 8, 16, 32, 128, 512};
  int kernel_mib = 0;  // 0: more than the device's caches hold
  std::vector<KernelShape> kernel_shapes = {{.n_rows = 8960, .n_cols = 1536}, {.n_rows = 1536, .n_cols = 8960}};
};

bool add_test(const std::string& name, std::vector<BenchTest>& tests) {
  for (const BenchTest test : {BenchTest::kPrefill, BenchTest::kDecode, BenchTest::kMixed})
    if (bench_test_name(test) == name) {
      tests.push_back(test);
      return true;
    }
  return false;
}

bool add_shape(const std::string& text, std::vector<KernelShape>& shapes) {
  const size_t cross = text.find('x');
  if (cross == std::string::npos) return false;
  const auto n_rows = parse_number<int>(text.substr(0, cross)), n_cols = parse_number<int>(text.substr(cross + 1));
  if (!n_rows || !n_cols || *n_rows < 1 || *n_cols < 1 || *n_rows > kMaxSide || *n_cols > kMaxSide) return false;
  shapes.push_back({.n_rows = *n_rows, .n_cols = *n_cols});
  return true;
}

std::string case_text(const BenchCase& c) {
  return fmt::format("{}, prompt {}, generate {}, batch {}, depth {}", bench_test_name(c.test), c.n_prompt,
                     c.n_generate, c.batch, c.depth);
}

void fill_in_cpu(BenchSetup& setup, const std::optional<CpuChoice>& cpu) {
  if (!cpu) return;
  setup.isa = isa_name(cpu->isa);
  setup.n_threads = cpu->n_threads;
}

// Runs the cases and writes each row of the table as it comes; fewer than all where nobody reads them.
Result<std::vector<BenchRow>> run_cases(const BenchCommandOptions& options, const std::vector<BenchCase>& cases,
                                        Executor& executor, const Model& model, const BenchSetup& setup,
                                        StandardOutput& out) {
  const ModelWork work(model);
  const InterruptGuard interrupt;
  ProgressBar bar("measuring");
  std::vector<BenchRow> rows;
  if (!options.json) out.write(bench_table_header());
  for (const BenchCase& bench_case : cases) {
    const auto progress = [&](double fraction) {
      bar.update((static_cast<double>(rows.size()) + fraction) / static_cast<double>(cases.size()),
                 case_text(bench_case));
      return !interrupt.interrupted() && !out.failed();
    };
    const Result<BenchMeasurement> measurement =
        run_bench_case(executor, bench_case, work, model.spec().vocab_size, options.measure, progress);
    if (out.failed()) return rows;  // the reason why it was stopped, and not the user
    if (!measurement) return measurement.error();
    rows.push_back(bench_row(*measurement, setup.peaks));
    if (options.json) continue;
    bar.clear();
    out.write(bench_table_row(rows.back()));
  }
  return rows;
}

// A path that cannot be written should not cost a measurement; and while that lasts, nothing should lie about that a
// process which is killed leaves behind.
Result<void> check_may_be_written(const std::string& path) {
  SPATE_TRY(const AtomicFile abandoned, AtomicFile::create(path));
  return {};
}

Result<void> bench_model(const BenchCommandOptions& options) {
  const std::vector<BenchCase> cases = bench_cases(options.lists);
  if (cases.empty()) return Error::usage("nothing to measure: the lists leave no test with a token to run");
  SPATE_TRY(const ExecutorLimits limits, bench_limits(cases, options.step_tokens));
  if (!options.plot.empty()) SPATE_TRY_VOID(check_may_be_written(options.plot));
  SPATE_TRY(const std::string path, model_path(options.model));
  SPATE_TRY(const std::shared_ptr<const Model> model, Model::open(path));
  for (const BenchCase& c : cases)
    if (c.longest_sequence() > model->spec().context_length) {
      log::warn("{} goes beyond the {} positions that the model was trained on", case_text(c),
                model->spec().context_length);
      break;
    }
  BenchSetup setup{.model = path, .options = options.measure, .step_tokens = limits.max_step_tokens};
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options.device));
  fill_in_cpu(setup, cpu);
  SPATE_TRY(setup.peaks, measure_peaks(options.device));
  SPATE_TRY(const std::unique_ptr<Executor> executor, make_executor(model, options.device, limits));
  setup.device = executor->description();
  const ModelWork work(*model);
  setup.weight_bytes = work.weight_bytes();
  setup.kv_bytes_per_token = work.kv_bytes_per_token();

  StandardOutput out;
  if (!options.json)
    out.write(fmt::format("{}: {} of weights a step\n{}\n{}", escape_control(path),
                          format_bytes(static_cast<uint64_t>(setup.weight_bytes)), setup.device,
                          peaks_text(setup.peaks)));
  SPATE_TRY(const std::vector<BenchRow> rows, run_cases(options, cases, *executor, *model, setup, out));
  if (rows.size() < cases.size()) return out.finish();
  if (options.json) out.write(json_line(bench_json(setup, rows)));
  if (!options.plot.empty()) {
    SPATE_TRY(AtomicFile plot, AtomicFile::create(options.plot));
    SPATE_TRY_VOID(plot.write(bench_chart(setup, rows)));
    SPATE_TRY_VOID(plot.commit());
  }
  return out.finish();
}

Result<void> bench_kernels(const BenchCommandOptions& options) {
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options.device));
  KernelBenchOptions kernels{.isas = {},
                             .types = options.kernel_types,
                             .shapes = options.kernel_shapes,
                             .tokens = options.kernel_tokens,
                             .n_threads = cpu ? cpu->n_threads : 1,
                             .repeat = options.measure.repeat,
                             .pass_bytes = {}};
  if (options.kernel_mib > 0) kernels.pass_bytes = int64_t{options.kernel_mib} << 20;
  if (cpu && options.device.isa.empty())
    std::copy_if(std::begin(kAllIsas), std::end(kAllIsas), std::back_inserter(kernels.isas), isa_supported);
  else if (cpu)
    kernels.isas = {cpu->isa};
  if (kernels.types.empty()) kernels.types.assign(all_quant_types().begin(), all_quant_types().end());
  BenchSetup setup{.options = options.measure};
  if (cpu) {
    setup.device = fmt::format("CPU, {} threads", cpu->n_threads);
  } else {
    SPATE_TRY(setup.device, find_gpu(options.device));
  }
  fill_in_cpu(setup, cpu);
  SPATE_TRY(setup.peaks, measure_peaks(options.device));
  const InterruptGuard interrupt;
  StandardOutput out;
  if (!options.json) out.write(peaks_text(setup.peaks) + kernel_table_header());
  std::vector<KernelTiming> timings;
  const auto take = [&](const KernelTiming& timing) {
    timings.push_back(timing);
    if (!options.json) out.write(kernel_table_row(timing, setup.peaks));
    return !interrupt.interrupted() && !out.failed();
  };
  const Result<void> timed = cpu ? time_cpu_kernels(kernels, take) : time_gpu_kernels(options.device, kernels, take);
  if (!timed && !out.failed()) return timed.error();
  if (options.json) out.write(json_line(kernel_json(setup, timings)));
  return out.finish();
}

void add_case_options(CLI::App& parser, BenchCommandOptions& options) {
  BenchLists& lists = options.lists;
  const auto in_group = [](CLI::Option* option) { option->group(kCasesGroup); };
  in_group(add_list(parser, "--prompt", lists.prompt, 0, kMaxTokens, "tokens of each prompt, 0 for none; default 512"));
  in_group(add_list(parser, "--generate", lists.generate, 0, kMaxTokens,
                    "tokens that each sequence generates, 0 for none; default 32"));
  in_group(add_list(parser, "--batch", lists.batch, 1, 1 << 16, "sequences at once; default 1"));
  in_group(add_list(parser, "--depth", lists.depth, 0, kMaxTokens,
                    "tokens in the KV cache of each sequence before it is measured; default 0"));
  in_group(parser
               .add_option_function<std::string>(
                   "--test",
                   [&lists](const std::string& text) {
                     lists.tests.clear();
                     each_of_list("--test", text, "prefill, decode or mixed",
                                  [&](const std::string& part) { return add_test(part, lists.tests); });
                   },
                   "prefill, decode, mixed (a prompt is read in equal shares while others generate); default: all")
               ->type_name("LIST"));
}

void add_kernel_options(CLI::App& parser, BenchCommandOptions& options) {
  CLI::Option* kernels = parser.add_flag("--kernels", options.kernels,
                                         "time matrix products instead, for each type, shape and number of tokens, "
                                         "and on a CPU each instruction set that it has (or --isa)");
  const auto in_group = [kernels](CLI::Option* option) {
    if (option != kernels) option->needs(kernels);
    option->group(kKernelsGroup);
  };
  for (const char* of_models : {"MODEL", "--prompt", "--generate", "--batch", "--depth", "--test", "--plot"})
    kernels->excludes(parser.get_option(of_models));
  in_group(kernels);
  in_group(parser
               .add_option_function<std::string>(
                   "--kernel-types",
                   [&options](const std::string& text) {
                     options.kernel_types.clear();
                     each_of_list("--kernel-types", text, "a tensor type (q4_k)", [&](const std::string& part) {
                       const std::optional<QuantType> type = quant_type_from_name(part);
                       if (type) options.kernel_types.push_back(*type);
                       return type.has_value();
                     });
                   },
                   "tensor types; default: all")
               ->type_name("LIST"));
  in_group(add_list(parser, "--kernel-tokens", options.kernel_tokens, 1, 1 << 16,
                    "tokens of a product; default 1,2,4,8,16,32,128,512"));
  in_group(add_number(parser, "--kernel-mib", options.kernel_mib, 1, 1 << 16,
                      "MiB of weights that a pass reads, at least one matrix; default: more than caches hold, 256 on a "
                      "CPU and 400 on a GPU"));
  in_group(parser
               .add_option_function<std::string>(
                   "--kernel-shapes",
                   [&options](const std::string& text) {
                     options.kernel_shapes.clear();
                     each_of_list("--kernel-shapes", text, fmt::format("ROWSxCOLUMNS, each from 1 to {}", kMaxSide),
                                  [&](const std::string& part) { return add_shape(part, options.kernel_shapes); });
                   },
                   "rows x columns; default 8960x1536,1536x8960")
               ->type_name("LIST"));
}

Action setup_bench(CLI::App& parser) {
  auto options = std::make_shared<BenchCommandOptions>();
  add_model_option(parser, options->model);
  add_case_options(parser, *options);
  add_number(parser, "--step-tokens", options->step_tokens, 1, 1 << 20, "tokens of a step at most; default 512");
  add_number(parser, "--repeat", options->measure.repeat, 1, 10000,
             "measured repetitions, of which the median is reported and its median absolute deviation; default 5");
  add_number(parser, "--warmup", options->measure.warmup, 0, 10000, "repetitions before those; default 1");
  parser.add_flag("--json", options->json,
                  "write one JSON object: read_gb_s, rows of test, tok_s, gb_s, peak_share, ...");
  parser.add_option("--plot", options->plot, "also draw tok/s against --batch, or else --depth, as SVG")
      ->type_name("FILE.svg")
      // A model in the place of FILE is overwritten by no slip of the hand.
      ->check([](const std::string& name) {
        return name.ends_with(".svg") ? ""
                                      : fmt::format("'{}' does not end in .svg, as the name of a chart does", name);
      });
  add_kernel_options(parser, *options);
  add_device_options(parser, options->device);
  return [options] { return options->kernels ? bench_kernels(*options) : bench_model(*options); };
}

}  // namespace

const Command bench_command{.name = "bench",
                            .summary = "Measure how fast a model runs, and how close to what the device can do",
                            .examples =
                                "  spate bench model.gguf\n"
                                "  spate bench model.gguf --test decode --batch 1,2,4,8,16 --plot decode.svg\n"
                                "  spate bench model.gguf --prompt 512 --generate 0 --depth 0,4096 --json\n"
                                "  spate bench --kernels --kernel-types q4_k,q6_k --kernel-tokens 1,8",
                            .setup = setup_bench};

}  // namespace spate::app
