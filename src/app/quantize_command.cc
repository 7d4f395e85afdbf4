// spate quantize: a model file in smaller types.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/options.h"
#include "app/progress_bar.h"
#include "app/quantize.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/cpu_features.h"

namespace spate::app {

namespace {

struct QuantizeCommandOptions {
  std::string in, out, mix;
  QuantizeOptions quantize;
  int n_threads = 0;   // 0: the physical cores
  bool force = false;  // replace `out`
  bool dry_run = false;
  bool json = false;
};

std::string mix_names() {
  std::string names;
  for (const Mix& mix : all_mixes()) names += (names.empty() ? "" : ", ") + std::string(mix.name);
  return names;
}

QuantType parse_type(const std::string& option, std::string_view name) {
  const auto type = quant_type_from_name(name);
  if (type) return *type;
  std::string known;
  for (QuantType one : all_quant_types()) known += (known.empty() ? "" : ", ") + std::string(quant_name(one));
  throw CLI::ValidationError(option, fmt::format("'{}' is no tensor type; there are {}", name, known));
}

TypeOverride parse_override(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == 0 || equals == std::string::npos)
    throw CLI::ValidationError("--tensor-type", fmt::format("'{}' is not PATTERN=TYPE", text));
  return {.pattern = text.substr(0, equals), .type = parse_type("--tensor-type", text.substr(equals + 1))};
}

// What a run or a dry run has to tell.
struct Report {
  const GgufFile& file;
  const QuantizeCommandOptions& options;
  const std::vector<TensorPlan>& plan;
  const std::vector<QuantizeError>& errors;  // [plan]; empty for a dry run
  double seconds = 0;
};

struct Total {
  int64_t n_tensors = 0, n_elems = 0;
  uint64_t bytes_before = 0, bytes_after = 0;
  QuantizeError error;

  void add(const Report& report, size_t i) {
    const TensorPlan& plan = report.plan[i];
    ++n_tensors;
    n_elems += plan.tensor->n_elems();
    bytes_before += plan.tensor->data.size();
    bytes_after += plan.n_bytes();
    if (!report.errors.empty()) error.add(report.errors[i]);
  }
  double bits_per_weight() const {
    return n_elems == 0 ? 0 : 8.0 * static_cast<double>(bytes_after) / static_cast<double>(n_elems);
  }
};

Total total_of(const Report& report) {
  Total total;
  for (size_t i = 0; i < report.plan.size(); ++i) total.add(report, i);
  return total;
}

// Of all tensors that are converted.
QuantizeError converted_error(const Report& report) {
  QuantizeError error;
  for (const QuantizeError& one : report.errors) error.add(one);
  return error;
}

// By what each becomes; tensors that are copied count under the type that they keep. In the order of types.def, and
// behind these the types that can only be copied.
std::vector<std::pair<QuantType, Total>> totals_by_type(const Report& report) {
  std::vector<std::pair<QuantType, Total>> totals;
  for (QuantType type : all_quant_types()) totals.emplace_back(type, Total{});
  for (size_t i = 0; i < report.plan.size(); ++i) {
    const QuantType type = report.plan[i].type;
    auto total = std::find_if(totals.begin(), totals.end(), [&](const auto& entry) { return entry.first == type; });
    if (total == totals.end()) total = totals.emplace(total, type, Total{});
    total->second.add(report, i);
  }
  std::erase_if(totals, [](const auto& entry) { return entry.second.n_tensors == 0; });
  return totals;
}

std::string as_json(const Report& report) {
  const Total total = total_of(report);
  Json json = {{"input", report.file.path()},
               {"output", report.options.out},
               {"type", report.options.quantize.mix->name},
               {"dry_run", report.options.dry_run},
               {"weights", total.n_elems},
               {"bytes_before", total.bytes_before},
               {"bytes_after", total.bytes_after},
               {"bits_per_weight", total.bits_per_weight()}};
  if (!report.errors.empty()) {
    json["relative_rms_error"] = converted_error(report).relative_rms();
    json["timings"] = {{"seconds", report.seconds},
                       {"weights_per_second", static_cast<double>(total.n_elems) / report.seconds}};
  }
  Json tensors = Json::array();
  for (size_t i = 0; i < report.plan.size(); ++i) {
    const TensorPlan& plan = report.plan[i];
    Json tensor = {{"name", plan.tensor->name},
                   {"from", quant_name(plan.tensor->type)},
                   {"to", quant_name(plan.type)},
                   {"weights", plan.tensor->n_elems()},
                   {"bytes_before", plan.tensor->data.size()},
                   {"bytes_after", plan.n_bytes()}};
    if (!report.errors.empty()) tensor["relative_rms_error"] = report.errors[i].relative_rms();
    tensors.push_back(std::move(tensor));
  }
  json["tensors"] = std::move(tensors);
  return json_line(json);
}

std::string as_text(const Report& report) {
  std::string text;
  if (report.options.dry_run)
    for (const TensorPlan& plan : report.plan)
      text += fmt::format("{:<40} {:>12} {:<7} -> {:<7} {:>12}\n", escape_control(plan.tensor->name),
                          format_bytes(plan.tensor->data.size()), quant_name(plan.tensor->type), quant_name(plan.type),
                          format_bytes(plan.n_bytes()));
  for (const auto& [type, total] : totals_by_type(report)) {
    text += fmt::format("{:<7} {:>5} tensors {:>16} weights {:>12}", quant_name(type), total.n_tensors,
                        format_count(static_cast<uint64_t>(total.n_elems)), format_bytes(total.bytes_after));
    if (total.error.sum_squares > 0) text += fmt::format("  RMS error {:.3g} %", 100 * total.error.relative_rms());
    text += "\n";
  }
  const Total total = total_of(report);
  text += fmt::format("{}: {} -> {}, {:.2f} bits a weight", report.options.quantize.mix->name,
                      format_bytes(total.bytes_before), format_bytes(total.bytes_after), total.bits_per_weight());
  if (!report.errors.empty()) {
    size_t worst = 0;
    for (size_t i = 0; i < report.errors.size(); ++i)
      if (report.errors[i].relative_rms() > report.errors[worst].relative_rms()) worst = i;
    text += fmt::format(", in {:.1f} s; RMS error {:.3g} % of the converted weights' own", report.seconds,
                        100 * converted_error(report).relative_rms());
    if (report.errors[worst].sum_squared_errors > 0)
      text += fmt::format(", most in {}, {:.3g} %", escape_control(report.plan[worst].tensor->name),
                          100 * report.errors[worst].relative_rms());
  }
  return text + "\n";
}

// The input is mapped while the output is written, and a part of it that is replaced is lost.
Result<void> check_not_the_input(const GgufFile& file, const std::string& out) {
  for (int i = 0; i < file.n_files(); ++i) {
    std::error_code absent;
    if (std::filesystem::equivalent(file.file(i).path(), out, absent))
      return Error::usage(fmt::format("{} is the input itself; name another file for the output", out));
  }
  return {};
}

// Only regular files: what else is there cannot be replaced at all, and writing it says so.
Result<void> check_may_be_written(const QuantizeCommandOptions& options) {
  std::error_code absent;
  if (options.force || options.dry_run || !std::filesystem::is_regular_file(options.out, absent)) return {};
  return Error::usage(fmt::format("{} exists; --force replaces it", options.out));
}

Result<void> find_mix_named(QuantizeCommandOptions& options) {
  options.quantize.mix = find_mix(options.mix);
  if (options.quantize.mix == nullptr)
    return Error::usage(fmt::format("'{}' is no type to quantise to; there are {}", options.mix, mix_names()));
  return {};
}

Result<void> quantize(QuantizeCommandOptions options) {
  SPATE_TRY_VOID(find_mix_named(options));
  SPATE_TRY(const GgufFile file, GgufFile::open(options.in));
  SPATE_TRY_VOID(check_not_the_input(file, options.out));
  SPATE_TRY(const std::vector<TensorPlan> plan, plan_quantization(file, options.quantize));
  SPATE_TRY_VOID(check_may_be_written(options));

  std::vector<QuantizeError> errors;
  double seconds = 0;
  if (!options.dry_run) {
    ThreadPool threads(options.n_threads > 0 ? options.n_threads : physical_cores());
    const InterruptGuard interrupt;
    ProgressBar bar("quantising");
    const auto start = std::chrono::steady_clock::now();
    SPATE_TRY(errors, write_quantized(file, plan, *options.quantize.mix, options.out, threads,
                                      [&](double fraction, std::string_view tensor) {
                                        bar.update(fraction, escape_control(tensor));
                                        return !interrupt.interrupted();
                                      }));
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  SPATE_TRY_VOID(file.check_intact());
  const Report report{.file = file, .options = options, .plan = plan, .errors = errors, .seconds = seconds};
  StandardOutput out;
  out.write(options.json ? as_json(report) : as_text(report));
  return out.finish();
}

Action setup_quantize(CLI::App& parser) {
  auto options = std::make_shared<QuantizeCommandOptions>();
  parser.add_option("IN", options->in, "a GGUF file of F32, F16 or BF16 weights; of a split model, any part")
      ->required()
      ->type_name("");
  parser.add_option("OUT", options->out, "the file to write")->required()->type_name("");
  parser.add_option("TYPE", options->mix, "what to quantise to: " + mix_names())->required()->type_name("");
  add_repeatable(
      parser, "--tensor-type",
      [options](const std::string& text) { options->quantize.overrides.push_back(parse_override(text)); },
      "matrices whose names fit PATTERN (* any text, ? any character) get this type; may be repeated, the first that "
      "fits counts")
      ->type_name("PATTERN=TYPE");
  const auto add_type = [&](const std::string& name, std::optional<QuantType>& type, const std::string& description) {
    parser
        .add_option_function<std::string>(
            name, [name, options, &type](const std::string& text) { type = parse_type(name, text); }, description)
        ->type_name("TYPE");
  };
  add_type("--output-type", options->quantize.output_type,
           "of the output matrix, or of the token embedding where the model uses that one for both");
  add_type("--token-embedding-type", options->quantize.token_embedding_type, "of the token embedding");
  parser.add_flag("--requantize", options->quantize.requantize,
                  "also take weights that are quantised already; the errors add up");
  parser.add_flag("--force", options->force, "replace OUT where it exists");
  parser.add_flag("--dry-run", options->dry_run, "only show which tensor would get which type");
  parser.add_flag("--json", options->json, "write one JSON object: sizes, relative_rms_error, tensors, ...");
  add_number(parser, "--threads", options->n_threads, 1, 1024, "processor threads; default: the physical cores");
  return [options] { return quantize(*options); };
}

}  // namespace

const Command quantize_command{.name = "quantize",
                               .summary = "Write a model in smaller types",
                               .examples =
                                   "  spate quantize model-f16.gguf model-q4_k_m.gguf q4_k_m\n"
                                   "  spate quantize model-f16.gguf small.gguf q3_k_m --tensor-type '*ffn_down*=q4_k'\n"
                                   "  spate quantize model-f16.gguf out.gguf q5_k_s --dry-run",
                               .setup = setup_quantize};

}  // namespace spate::app
