// From a conversation to the tokens of a prompt, by the template that the model carries.
//
// Whoever writes a message must not be able to end a turn or to speak in another role: of the rendered text, only the
// bytes that the template wrote become control tokens. "<|im_end|>" in a message is the text "<|im_end|>".
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/conversation.h"
#include "gguf/gguf_file.h"
#include "jinja/template.h"
#include "text/tokenizer.h"

namespace spate::chat {

// The names of special tokens that templates may write, and the clock.
struct TemplateNames {
  std::string bos_token = {}, eos_token = {};  // empty where the vocabulary has none
  std::string pad_token = {}, unk_token = {};
  std::optional<std::tm> now = {};  // local time, for strftime_now; absent: a template that asks fails

  static TemplateNames of(const Vocab& vocab, std::optional<std::tm> now);
};

// For trying a template out, on conversations of a few messages: one that never ends is found out soon.
inline constexpr jinja::Limits kTrialLimits{.max_output_bytes = size_t{1} << 20, .max_steps = 1'000'000};

// A text and who wrote which bytes of it.
using jinja::Rendered;

// Immutable; may be used by several threads at a time.
class ChatTemplate {
 public:
  // The template of a model file. name: one of names(), or empty for the default one (tokenizer.chat_template), beside
  // which a file may have one for conversations with tools, "tool_use", that is then taken for those. Errors:
  // kUnsupported: the file has no template, or none of that name; the message suggests --chat-template FILE. kBadFile:
  // it does not parse.
  static Result<ChatTemplate> from_gguf(const GgufFile& file, std::string_view name = {});
  // What from_gguf() takes as a name: "default" and the keys tokenizer.chat_template.NAME, in file order.
  static std::vector<std::string> names(const GgufFile& file);
  // Error kBadFile.
  static Result<ChatTemplate> from_source(std::string_view source, std::string name);
  // Error kIo, kBadFile. render() names the template by the last part of the path alone, and one of a model by its key.
  static Result<ChatTemplate> from_file(const std::string& path);

  // The conversation as the model was trained to see it. Roles that are in common use count as the template's own
  // words, so that `'<|' + message.role + '|>'` can be a control token; all else in the conversation is the request's.
  // Arguments of tool calls that came as text, lists of text parts, and content that is not there are handed over in
  // the form that the template can print. Errors as of jinja::Template::render(); kUsage is the template's own
  // complaint.
  Result<Rendered> render(const Conversation& conversation, const TemplateNames& names,
                          const jinja::Limits& limits = {}) const;

  // The template that render() uses.
  const std::string& source(bool with_tools = false) const { return variant(with_tools).source; }

 private:
  struct Variant {
    std::string source;
    jinja::Template parsed;
    // What it makes of content in parts, of arguments as an object and of no content, tried when it was read.
    bool takes_parts = false;
    bool takes_argument_objects = false;
    bool takes_null_content = false;
  };
  static Result<Variant> make_variant(std::string_view source, std::string name);

  static void try_out(Variant& variant);
  static Result<Rendered> render_as_is(const Variant& variant, const Conversation& conversation,
                                       const TemplateNames& names, const jinja::Limits& limits);

  ChatTemplate(Variant plain, std::optional<Variant> with_tools);
  const Variant& variant(bool with_tools) const { return with_tools && with_tools_ ? *with_tools_ : plain_; }

  Variant plain_;
  std::optional<Variant> with_tools_;
};

}  // namespace spate::chat
