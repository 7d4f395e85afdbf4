// spate tokenize: text to token ids and back.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/command.h"
#include "app/load.h"
#include "app/options.h"
#include "app/standard_output.h"
#include "app/text_format.h"
#include "base/file.h"
#include "chat/json_reader.h"

namespace spate::app {

namespace {

struct TokenizeOptions {
  std::string model;
  bool decode = false;
  bool no_special = false;
  bool no_bos = false;
  bool json = false;
};

// The ids in "[1, 2]" or {"ids": [1, 2]}.
Result<std::vector<TokenId>> ids_from_json(std::string_view text) {
  Json json;
  if (const auto problem = chat::read_json(text, {.max_values = kMaxTextBytes}, json))
    return Error::usage("standard input " + problem->what);
  if (json.is_object() && json.contains("ids")) json = Json(json["ids"]);
  if (!json.is_array()) return Error::usage("standard input is neither a JSON array of ids nor an object with `ids`");
  std::vector<TokenId> ids;
  for (const Json& element : json) {
    const auto id =
        element.is_number_integer() ? parse_number<TokenId>(element.dump()) : std::optional<TokenId>(std::nullopt);
    if (!id)
      return Error::usage(
          fmt::format("id {} of standard input: {} is no token id", ids.size(), shorten(json_text(element), 40)));
    ids.push_back(*id);
  }
  return ids;
}

// Token ids as people and scripts write them: separated by white space or commas, or as JSON.
Result<std::vector<TokenId>> parse_ids(std::string_view text) {
  constexpr std::string_view kSeparators = " \t\r\n\v\f,";
  const size_t first = text.find_first_not_of(kSeparators);
  if (first == std::string_view::npos) return std::vector<TokenId>{};
  if (text[first] == '[' || text[first] == '{') return ids_from_json(text);
  std::vector<TokenId> ids;
  for (size_t begin = first; begin != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kSeparators, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    const auto id = parse_number<TokenId>(word);
    if (!id)
      return Error::usage(fmt::format("id {} of standard input: '{}' is no token id", ids.size(), shorten(word, 40)));
    ids.push_back(*id);
    begin = text.find_first_not_of(kSeparators, end);
  }
  return ids;
}

Result<void> check_in_vocabulary(const std::vector<TokenId>& ids, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      return Error::usage(
          fmt::format("id {} of standard input: {} is outside the vocabulary of {} tokens", i, ids[i], vocab_size));
  return {};
}

std::string ids_as_words(const std::vector<TokenId>& ids) {
  std::string line;
  for (const TokenId id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  return line + "\n";
}

Result<void> tokenize(const TokenizeOptions& options) {
  SPATE_TRY(const auto tokenizer, load_tokenizer(options.model));
  SPATE_TRY(const std::string input, read_file("-"));
  StandardOutput out;
  if (options.decode) {
    SPATE_TRY(const std::vector<TokenId> ids, parse_ids(input));
    SPATE_TRY_VOID(check_in_vocabulary(ids, tokenizer->vocab().size()));
    const std::string text = tokenizer->decode(ids, !options.no_special);
    out.write(options.json ? json_line({{"text", text}}) : text);
  } else {
    const std::vector<TokenId> ids =
        tokenizer->encode(input, {.parse_special = !options.no_special, .add_special = !options.no_bos});
    out.write(options.json ? json_line({{"ids", ids}}) : ids_as_words(ids));
  }
  return out.finish();
}

Action setup_tokenize(CLI::App& parser) {
  auto options = std::make_shared<TokenizeOptions>();
  add_model_option(parser, options->model);
  parser.add_flag(
      "--decode", options->decode,
      "ids from standard input (white space, commas or JSON between them) to the bytes that they stand for");
  parser.add_flag("--no-special", options->no_special,
                  "special tokens written in the text are plain text; with --decode, special tokens are left out");
  parser.add_flag("--no-bos", options->no_bos, "add no BOS or EOS token, whatever the vocabulary says");
  parser.add_flag("--json", options->json, R"(write {"ids": [...]}, with --decode {"text": "..."})");
  return [options] { return tokenize(*options); };
}

}  // namespace

const Command tokenize_command{.name = "tokenize",
                               .summary = "Turn standard input's exact bytes into token ids, or ids into bytes",
                               .examples =
                                   "  printf 'It was a dark night' | spate tokenize model.gguf\n"
                                   "  spate tokenize --json < book.txt | spate tokenize --decode > same-book.txt",
                               .setup = setup_tokenize};

}  // namespace spate::app
