#include "chat/chat_template.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/utf8.h"

namespace spate::chat {
namespace {

constexpr std::string_view kKey = "tokenizer.chat_template";
constexpr std::string_view kNamedPrefix = "tokenizer.chat_template.";
constexpr std::string_view kDefaultName = "default";
constexpr std::string_view kToolsName = "tool_use";  // as Hugging Face calls the template for conversations with tools

// Roles that a client may give and a template may put between the brackets of a control token.
constexpr std::array<std::string_view, 10> kCommonRoles = {
    "system", "developer", "user", "assistant", "tool", "function", "ipython", "observation", "model", "tool_response"};

using jinja::Origin;
using jinja::Text;
using jinja::Value;

void set(jinja::Dict& dict, std::string_view key, Value value) {
  dict.set(Text(std::string(key), Origin::kTemplate), std::move(value));
}

Value own_words(const std::string& text) {
  return Text(text, Origin::kTemplate);
}

bool is_text_part(const Json& part) {
  return part.at("type") == "text";
}

// Content whose parts are all text, as one string.
std::optional<std::string> joined(const Message& message) {
  if (!message.content || !message.content->is_array()) return std::nullopt;
  if (!std::all_of(message.content->begin(), message.content->end(), is_text_part)) return std::nullopt;
  return message.content_text();
}

// Arguments that are the text of a JSON object, as that object.
void parse_arguments(Json& tool_calls) {
  for (Json& call : tool_calls) {
    const auto arguments = call["function"].find("arguments");
    if (arguments == call["function"].end() || !arguments->is_string()) continue;
    const Result<Json> parsed = parse_json(arguments->get_ref<const std::string&>(), "arguments");
    if (parsed.ok() && parsed->is_object()) *arguments = *parsed;
  }
}

Result<Value> value_of(const Message& message) {
  SPATE_TRY(const Value value, jinja::value_from_json(message.to_json()));
  const bool common = std::find(kCommonRoles.begin(), kCommonRoles.end(), message.role) != kCommonRoles.end();
  if (common) value.dict()->set(Text("role", Origin::kRequest), own_words(message.role));
  return value;
}

// What does not parse, with the file that it is in. The template's own name leaves the path out: it is part of what
// render() says, which a server's clients read.
template <typename T>
Result<T> in_file(const std::string& path, Result<T> parsed) {
  if (!parsed) return Error{parsed.error().code, fmt::format("{}: {}", path, parsed.error().message)};
  return parsed;
}

std::string name_of(const Vocab& vocab, TokenId id) {
  return id == kNoToken ? std::string() : vocab.tokens[id];
}

// A conversation for trying a template, whose text is found again by what stands in it.
Conversation trial(std::vector<Message> messages) {
  Conversation conversation;
  conversation.messages = std::move(messages);
  return conversation;
}

bool contains(const Result<jinja::Rendered>& rendered, std::string_view text) {
  return rendered.ok() && rendered->text.find(text) != std::string::npos;
}

}  // namespace

TemplateNames TemplateNames::of(const Vocab& vocab, std::optional<std::tm> now) {
  return {.bos_token = name_of(vocab, vocab.bos),
          .eos_token = name_of(vocab, vocab.eos),
          .pad_token = name_of(vocab, vocab.pad),
          .unk_token = name_of(vocab, vocab.unknown),
          .now = now};
}

std::vector<std::string> ChatTemplate::names(const GgufFile& file) {
  std::vector<std::string> names;
  for (const auto& [key, value] : file.metadata()) {
    if (!std::holds_alternative<std::string_view>(value)) continue;
    if (key == kKey) names.emplace_back(kDefaultName);
    if (key.starts_with(kNamedPrefix)) names.push_back(key.substr(kNamedPrefix.size()));
  }
  return names;
}

Result<ChatTemplate::Variant> ChatTemplate::make_variant(std::string_view source, std::string name) {
  SPATE_TRY(jinja::Template parsed, jinja::Template::parse(source, std::move(name)));
  return Variant{.source = std::string(source), .parsed = std::move(parsed)};
}

ChatTemplate::ChatTemplate(Variant plain, std::optional<Variant> with_tools)
    : plain_(std::move(plain)), with_tools_(std::move(with_tools)) {
  try_out(plain_);
  if (with_tools_) try_out(*with_tools_);
}

// Parts and arguments are given in the form that every template can at least print, so what counts is whether they come
// out as text and not as a printed list or dict, for which Python's quotes give it away. No content, beside tool calls,
// may be an error to a template, or come out as "None".
void ChatTemplate::try_out(Variant& variant) {
  const TemplateNames names{.now = std::tm{}};
  const Message question{.role = "user", .content = "a question"};
  const Message parts{.role = "user", .content = Json::array({{{"type", "text"}, {"text", "in a part"}}})};
  const auto in_parts = render_as_is(variant, trial({parts}), names, kTrialLimits);
  variant.takes_parts = contains(in_parts, "in a part") && !contains(in_parts, "'in a part'");

  const Json function = {{"name", "f"}, {"arguments", {{"argument", "its value"}}}};
  const Json calls = Json::array({{{"id", "call00001"}, {"type", "function"}, {"function", function}}});
  Conversation calling = trial({question, {.role = "assistant", .content = "", .tool_calls = calls}});
  calling.add_generation_prompt = false;
  const auto called = render_as_is(variant, calling, names, kTrialLimits);
  variant.takes_argument_objects = contains(called, "its value") && !contains(called, "'its value'");

  calling.messages[1].content = nullptr;
  const auto silent = render_as_is(variant, calling, names, kTrialLimits);
  variant.takes_null_content = silent.ok() && !contains(silent, "None");
}

Result<ChatTemplate> ChatTemplate::from_source(std::string_view source, std::string name) {
  SPATE_TRY(Variant variant, make_variant(source, std::move(name)));
  return ChatTemplate(std::move(variant), std::nullopt);
}

Result<ChatTemplate> ChatTemplate::from_file(const std::string& path) {
  SPATE_TRY(const std::string source, read_file(path, jinja::Limits{}.max_source_bytes));
  return in_file(path, from_source(source, std::filesystem::path(path).filename().string()));
}

Result<ChatTemplate> ChatTemplate::from_gguf(const GgufFile& file, std::string_view name) {
  const auto variant_of = [&](std::string_view wanted) -> Result<std::optional<Variant>> {
    const std::string key = wanted == kDefaultName ? std::string(kKey) : std::string(kNamedPrefix).append(wanted);
    SPATE_TRY(const auto source, file.string(key));
    if (!source) return std::optional<Variant>();
    SPATE_TRY(Variant variant, in_file(file.path(), make_variant(*source, key)));
    return std::optional<Variant>(std::move(variant));
  };
  const std::string_view wanted = name.empty() ? kDefaultName : name;
  SPATE_TRY(std::optional<Variant> variant, variant_of(wanted));
  if (!variant) {
    const std::vector<std::string> there = names(file);
    if (there.empty())
      return Error::unsupported(fmt::format(
          "{}: has no chat template ({}); give the one that the model was trained with by --chat-template FILE",
          file.path(), kKey));
    return Error::unsupported(
        fmt::format("{}: has no chat template named {}, but: {}; or give one by --chat-template FILE", file.path(),
                    quote(wanted), fmt::join(there, ", ")));
  }
  std::optional<Variant> with_tools;
  if (name.empty()) {
    SPATE_TRY(with_tools, variant_of(kToolsName));
  }
  SPATE_TRY_VOID(file.check_intact());
  return ChatTemplate(std::move(*variant), std::move(with_tools));
}

Result<Rendered> ChatTemplate::render(const Conversation& conversation, const TemplateNames& names,
                                      const jinja::Limits& limits) const {
  const bool with_tools = !conversation.tools.empty();
  const Variant& chosen = variant(with_tools);
  Conversation adapted = conversation;
  for (Message& message : adapted.messages) {
    if (!chosen.takes_parts)
      if (std::optional<std::string> text = joined(message)) message.content = std::move(*text);
    if (!chosen.takes_null_content && (!message.content || message.content->is_null())) message.content = "";
    if (chosen.takes_argument_objects && message.tool_calls) parse_arguments(*message.tool_calls);
  }
  return render_as_is(chosen, adapted, names, limits);
}

Result<Rendered> ChatTemplate::render_as_is(const Variant& variant, const Conversation& conversation,
                                            const TemplateNames& names, const jinja::Limits& limits) {
  auto context = std::make_shared<jinja::Dict>(nullptr);
  set(*context, "bos_token", own_words(names.bos_token));
  set(*context, "eos_token", own_words(names.eos_token));
  if (!names.pad_token.empty()) set(*context, "pad_token", own_words(names.pad_token));
  if (!names.unk_token.empty()) set(*context, "unk_token", own_words(names.unk_token));
  set(*context, "add_generation_prompt", conversation.add_generation_prompt);
  auto messages = std::make_shared<jinja::List>(nullptr);
  for (const Message& message : conversation.messages) {
    SPATE_TRY(Value value, value_of(message));
    messages->mutable_items().push_back(std::move(value));
  }
  set(*context, "messages", Value(std::move(messages)));
  if (!conversation.tools.is_null()) {
    SPATE_TRY(Value tools, jinja::value_from_json(conversation.tools));
    set(*context, "tools", std::move(tools));
  }
  for (const auto& [key, json] : conversation.variables.items()) {
    SPATE_TRY(Value value, jinja::value_from_json(json));
    set(*context, key, std::move(value));
  }
  return variant.parsed.render(Value(std::move(context)), {.limits = limits, .now = names.now});
}

}  // namespace spate::chat
