// spate template: what a chat template makes of a conversation.
#include <CLI/CLI.hpp>
#include <ctime>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>

#include "app/chat_options.h"
#include "app/command.h"
#include "app/load.h"
#include "app/local_time.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/file.h"
#include "base/utf8.h"
#include "chat/chat_template.h"
#include "chat/prompt_encoder.h"

namespace spate::app {

namespace {

// Far above any conversation, far below what would fill the memory as values.
constexpr uint64_t kMaxCaseBytes = uint64_t{64} << 20;

struct TemplateOptions {
  std::string first, second;  // MODEL and CASE, or CASE alone
  std::string file;
  std::string name;
  std::optional<std::string> bos, eos;
  std::optional<std::string> now;
  bool ids = false;
  bool trust_messages = false;
};

Result<std::tm> parse_time(const std::string& text) {
  std::tm time{};
  std::istringstream stream(text);
  stream >> std::get_time(&time, text.find('T') == std::string::npos ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%dT%H:%M:%S");
  if (stream.fail() || stream.peek() != std::istringstream::traits_type::eof())
    return Error::usage(fmt::format("--now {} is no time such as \"2026-03-14 15:09:26\"", quote(text)));
  // Fills in the day of the week and of the year. A day that does not exist would become another one.
  std::tm normal = time;
  normal.tm_isdst = -1;
  normal.tm_wday = -1;  // stays so where timegm fails; what it returns then, -1, is also a second of 1969
  timegm(&normal);
  if (normal.tm_wday < 0 || normal.tm_mday != time.tm_mday)
    return Error::usage(fmt::format("--now {}: there is no such day", quote(text)));
  return normal;
}

// A template and the vocabulary that it is for, if there is one.
struct Source {
  chat::ChatTemplate chat_template;
  std::unique_ptr<Tokenizer> tokenizer;
};

Result<Source> load_source(const TemplateOptions& options) {
  if (!options.file.empty()) {
    SPATE_TRY(chat::ChatTemplate from_file, chat::ChatTemplate::from_file(options.file));
    return Source{std::move(from_file), nullptr};
  }
  SPATE_TRY(const std::string path, model_path(options.second.empty() ? std::string() : options.first));
  SPATE_TRY(const GgufFile file, GgufFile::open(path));
  SPATE_TRY(chat::ChatTemplate of_model, chat::ChatTemplate::from_gguf(file, options.name));
  SPATE_TRY(std::unique_ptr<Tokenizer> tokenizer, load_tokenizer(path));
  return Source{std::move(of_model), std::move(tokenizer)};
}

Result<chat::Conversation> read_case(const std::string& path) {
  SPATE_TRY(const std::string text, read_file(path, kMaxCaseBytes));
  const std::string name = path == "-" ? "standard input" : path;
  SPATE_TRY(const chat::Json json, chat::parse_json(text, name));
  Result<chat::Conversation> conversation = chat::Conversation::from_json(json);
  if (!conversation) return Error::usage(fmt::format("{}: {}", name, conversation.error().message));
  return conversation;
}

Result<void> run_template(const TemplateOptions& options) {
  if (options.first.empty())
    return Error::usage("no conversation; give a JSON file with `messages`, or - for standard input");
  if (options.second.empty() && options.first.ends_with(".gguf"))
    return Error::usage(fmt::format("no conversation named beside the model {}", options.first));
  if (!options.file.empty() && !options.second.empty())
    return Error::usage("give a MODEL or --file, not both; the conversation is one file");
  if (!options.file.empty() && (options.ids || !options.name.empty()))
    return Error::usage("--ids and --template-name need a MODEL");
  chat::TemplateNames names;
  names.now = local_time();
  if (options.now) {
    SPATE_TRY(names.now, parse_time(*options.now));
  }
  SPATE_TRY(const Source source, load_source(options));
  if (source.tokenizer) names = chat::TemplateNames::of(source.tokenizer->vocab(), names.now);
  if (options.bos) names.bos_token = *options.bos;
  if (options.eos) names.eos_token = *options.eos;
  SPATE_TRY(const chat::Conversation conversation, read_case(options.second.empty() ? options.first : options.second));
  SPATE_TRY(const chat::Rendered rendered, source.chat_template.render(conversation, names));
  StandardOutput out;
  if (options.ids) {
    const chat::PromptEncoder encoder(*source.tokenizer, source.chat_template, options.trust_messages);
    out.write(json_line({{"ids", encoder.encode(rendered)}}));
  } else {
    out.write(out.is_terminal() ? terminal_text(rendered.text) : rendered.text);
  }
  return out.finish();
}

Action setup_template(CLI::App& parser) {
  auto options = std::make_shared<TemplateOptions>();
  parser.add_option("MODEL", options->first, "a GGUF file; left out, the bundled model")->type_name("");
  parser
      .add_option(
          "CASE", options->second,
          "a JSON file, or - for standard input: {\"messages\": [...]}, and `tools`, `add_generation_prompt` (default "
          "true) and any other names that the template knows")
      ->type_name("");
  parser.add_option("--file", options->file, "a file with a Jinja template, instead of a model's")->type_name("FILE");
  parser
      .add_option("--template-name", options->name,
                  "which of the model's templates, where it has several (tool_use, rag)")
      ->type_name("NAME");
  parser.add_option("--bos", options->bos, "bos_token; default: the model's")->type_name("TEXT");
  parser.add_option("--eos", options->eos, "eos_token; default: the model's")->type_name("TEXT");
  parser.add_option("--now", options->now, "what time it is for the template: \"2026-03-14 15:09:26\"; default: now")
      ->type_name("TIME");
  parser.add_flag("--ids", options->ids, R"(write the prompt's token ids, {"ids": [...]}, instead of its text)");
  parser.add_flag("--special-in-messages", options->trust_messages,
                  "with --ids: special tokens written in messages become those tokens");
  return [options] { return run_template(*options); };
}

}  // namespace

const Command template_command{
    .name = "template",
    .summary = "Show what a chat template makes of a conversation",
    .examples =
        "  spate template model.gguf conversation.json\n"
        "  spate template --file chat.jinja --bos '<s>' --eos '</s>' conversation.json\n"
        "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}' | spate template -",
    .setup = setup_template};

}  // namespace spate::app
