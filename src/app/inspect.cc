// spate inspect: what a model file holds, and whether spate would run it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/command.h"
#include "app/memory_report.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "gguf/gguf_file.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace spate::app {

namespace {

constexpr uint64_t kShownElements = 8;  // of an array
constexpr size_t kShownChars = 72;      // of a string

struct InspectOptions {
  std::string model;
  bool full = false;
  bool json = false;
  bool memory = false;
  int n_seqs = 64;
  int step_tokens = 512;
  DeviceOptions device;
};

struct TypeTotal {
  int64_t n_tensors = 0;
  int64_t n_elems = 0;
  uint64_t n_bytes = 0;
};

// What the loader says to a file: nothing, or why it refuses it.
struct LoaderVerdict {
  Result<void> model;      // `spate run`, `spate perplexity`
  Result<void> tokenizer;  // `spate tokenize`
};

LoaderVerdict ask_loader(const std::string& path) {
  const auto tokenizer = [&]() -> Result<void> {
    SPATE_TRY(const GgufFile file, GgufFile::open(path));
    SPATE_TRY(Vocab vocab, Vocab::from_gguf(file));
    auto made = Tokenizer::create(std::move(vocab));
    if (!made) return made.error();
    return {};
  };
  const auto model = [&]() -> Result<void> {
    auto opened = Model::open(path);
    if (!opened) return opened.error();
    return {};
  };
  return {.model = model(), .tokenizer = tokenizer()};
}

// A float32 by the shortest number that is read as it: 1e-06, and not the 9.999999974752427e-07 that its bits come to.
Json float_json(GgufType type, double value) {
  if (type != GgufType::kF32 || !std::isfinite(value)) return value;
  return parse_number<double>(fmt::format("{}", static_cast<float>(value))).value_or(value);
}

Json scalar_json(const GgufArray& array, uint64_t index) {
  switch (array.element_type) {
    case GgufType::kString:
      return array.strings[index];
    case GgufType::kBool:
      return array.integer(index) != 0;
    default:
      if (array.is_integer()) return array.integer(index);
      return float_json(array.element_type, array.number(index));
  }
}

// An array is an object, whatever its length: {"array_of": "string", "size": 16384, "values": [the first ones]}.
Json value_json(GgufType type, const GgufValue& value, bool full) {
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr)
    return std::visit(
        [type](const auto& scalar) -> Json {
          using T = std::decay_t<decltype(scalar)>;
          if constexpr (std::is_same_v<T, GgufArray>)
            return nullptr;
          else if constexpr (std::is_same_v<T, double>)
            return float_json(type, scalar);
          else
            return scalar;
        },
        value);
  Json values = Json::array();
  const uint64_t n_shown = full ? array->size : std::min(array->size, kShownElements);
  for (uint64_t i = 0; i < n_shown; ++i) values.push_back(scalar_json(*array, i));
  return {{"array_of", gguf_type_name(array->element_type)}, {"size", array->size}, {"values", std::move(values)}};
}

std::string scalar_text(const Json& scalar, bool full) {
  if (!scalar.is_string()) return scalar.dump();
  const auto& text = scalar.get_ref<const std::string&>();
  return full ? escape_control(text) : shorten(text, kShownChars);
}

std::string value_text(GgufType type, const GgufValue& value, bool full) {
  const Json json = value_json(type, value, full);
  if (!json.is_object()) return scalar_text(json, full);
  const auto& values = json["values"];
  const auto size = json["size"].get<uint64_t>();
  std::string text = fmt::format("{} x {}: [", format_count(size), json["array_of"].get<std::string>());
  for (size_t i = 0; i < values.size(); ++i) text += (i == 0 ? "" : ", ") + scalar_text(values[i], full);
  return text + (values.size() < size ? ", ...]" : "]");
}

std::vector<std::pair<std::string_view, TypeTotal>> totals_by_type(const GgufFile& file) {
  std::map<std::string_view, TypeTotal> by_name;
  for (const GgufTensor& tensor : file.tensors()) {
    TypeTotal& total = by_name[quant_name(tensor.type)];
    ++total.n_tensors;
    total.n_elems += tensor.n_elems();
    total.n_bytes += tensor.data.size();
  }
  std::vector<std::pair<std::string_view, TypeTotal>> totals(by_name.begin(), by_name.end());
  std::stable_sort(totals.begin(), totals.end(),
                   [](const auto& a, const auto& b) { return a.second.n_bytes > b.second.n_bytes; });
  return totals;
}

Json verdict_json(const Result<void>& verdict) {
  if (verdict) return {{"ok", true}};
  return {{"ok", false}, {"error", verdict.error().message}, {"exit_code", static_cast<int>(verdict.error().code)}};
}

Json as_json(const GgufFile& file, const LoaderVerdict& verdict, bool full) {
  Json metadata = Json::object();
  for (size_t i = 0; i < file.metadata().size(); ++i)
    metadata[file.metadata()[i].first] = value_json(file.metadata_types()[i], file.metadata()[i].second, full);
  Json tensors = Json::array();
  for (const GgufTensor& tensor : file.tensors())
    tensors.push_back({{"name", tensor.name},
                       {"type", quant_name(tensor.type)},
                       {"dims", std::vector<int64_t>(tensor.dims.begin(), tensor.dims.begin() + tensor.n_dims)},
                       {"bytes", tensor.data.size()},
                       {"file", tensor.file_index},
                       {"offset", tensor.offset}});
  Json types = Json::object();
  for (const auto& [name, total] : totals_by_type(file))
    types[std::string(name)] = {{"tensors", total.n_tensors}, {"elements", total.n_elems}, {"bytes", total.n_bytes}};
  return {{"file", file.path()},
          {"files", file.n_files()},
          {"version", file.version()},
          {"total_bytes", file.total_bytes()},
          {"metadata", std::move(metadata)},
          {"tensors", std::move(tensors)},
          {"types", std::move(types)},
          {"loader", {{"model", verdict_json(verdict.model)}, {"tokenizer", verdict_json(verdict.tokenizer)}}}};
}

std::string dims_text(const GgufTensor& tensor) {
  std::string text;
  for (int i = 0; i < tensor.n_dims; ++i) text += (i == 0 ? "" : " x ") + std::to_string(tensor.dims[i]);
  return text;
}

std::string verdict_text(const Result<void>& verdict) {
  return verdict ? "would load" : "refused: " + escape_control(verdict.error().message);
}

std::string as_text(const GgufFile& file, const LoaderVerdict& verdict, bool full) {
  int64_t n_elems = 0;
  for (const GgufTensor& tensor : file.tensors()) n_elems += tensor.n_elems();
  std::string text =
      fmt::format("{}: GGUF version {}, {} file(s), {}, {} tensors of {} elements\n", escape_control(file.path()),
                  file.version(), file.n_files(), format_bytes(file.total_bytes()), file.tensors().size(),
                  format_count(static_cast<uint64_t>(n_elems)));
  text += "\nMetadata\n";
  for (size_t i = 0; i < file.metadata().size(); ++i)
    text += fmt::format("  {:<40} {}\n", escape_control(file.metadata()[i].first),
                        value_text(file.metadata_types()[i], file.metadata()[i].second, full));
  if (!file.tensors().empty()) text += "\nTensors (columns x rows)\n";
  for (const GgufTensor& tensor : file.tensors())
    text += fmt::format("  {:<40} {:<7} {:>16} {:>12}\n", escape_control(tensor.name), quant_name(tensor.type),
                        dims_text(tensor), format_bytes(tensor.data.size()));
  if (!file.tensors().empty()) text += "\nSizes by type\n";
  for (const auto& [name, total] : totals_by_type(file))
    text += fmt::format("  {:<7} {:>5} tensors {:>16} elements {:>12}\n", name, total.n_tensors,
                        format_count(static_cast<uint64_t>(total.n_elems)), format_bytes(total.n_bytes));
  text += "\nLoader\n";
  text += fmt::format("  model      {}\n", verdict_text(verdict.model));
  text += fmt::format("  tokenizer  {}\n", verdict_text(verdict.tokenizer));
  return text;
}

Result<void> inspect(const InspectOptions& options) {
  SPATE_TRY(const std::string path, model_path(options.model));
  SPATE_TRY(const GgufFile file, GgufFile::open(path));
  const LoaderVerdict verdict = ask_loader(path);
  std::optional<MemoryReport> memory;
  if (options.memory) {
    SPATE_TRY(const std::shared_ptr<const Model> model, Model::open(path));
    const ExecutorLimits limits{.max_seqs = options.n_seqs, .max_step_tokens = options.step_tokens, .n_pages = 0};
    SPATE_TRY(memory, memory_report(*model, options.device, limits));
  }
  std::string result;
  if (options.json) {
    Json json = as_json(file, verdict, options.full);
    if (memory) json["memory"] = memory_json(*memory);
    result = json_line(json);
  } else {
    result = as_text(file, verdict, options.full);
    if (memory) result += memory_text(*memory);
  }
  SPATE_TRY_VOID(file.check_intact());
  StandardOutput out;
  out.write(result);
  return out.finish();
}

Action setup_inspect(CLI::App& parser) {
  auto options = std::make_shared<InspectOptions>();
  add_model_option(parser, options->model);
  parser.add_flag("--full", options->full, "all elements of arrays and the whole of strings, not just their beginning");
  parser.add_flag("--json", options->json, "write one JSON object: metadata, tensors, types, loader, ...");
  CLI::Option* memory =
      parser.add_flag("--memory", options->memory, "also show what running the model takes of the device's memory");
  add_number(parser, "--seqs", options->n_seqs, 1, 1 << 16, "sequences at once, for --memory; default 64")
      ->needs(memory);
  add_number(parser, "--step-tokens", options->step_tokens, 1, 1 << 20,
             "tokens of a step at most, for --memory; default 512")
      ->needs(memory);
  add_device_options(parser, options->device);
  return [options] { return inspect(*options); };
}

}  // namespace

const Command inspect_command{.name = "inspect",
                              .summary = "Show a model file's metadata and tensors, and what the loader would refuse",
                              .examples =
                                  "  spate inspect model.gguf\n"
                                  "  spate inspect model.gguf --memory --seqs 128\n"
                                  "  spate inspect model.gguf --json | jq .types",
                              .setup = setup_inspect};

}  // namespace spate::app
