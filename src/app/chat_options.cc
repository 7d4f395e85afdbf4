#include "app/chat_options.h"

namespace spate::app {

void add_chat_options(CLI::App& parser, ChatOptions& options, const std::function<void(CLI::Option*)>& each) {
  const auto take = [&](CLI::Option* option) {
    option->group(kChatGroup);
    if (each) each(option);
  };
  take(parser.add_option("--system", options.system, "the system message: what the assistant is, how it should answer")
           ->type_name("TEXT"));
  take(parser
           .add_option("--chat-template", options.template_file,
                       "a file with the Jinja template to use, not the model's")
           ->type_name("FILE"));
  take(parser
           .add_option("--template-name", options.template_name,
                       "which of the model's templates, where it has several (tool_use, rag); default: the default one")
           ->type_name("NAME"));
  take(parser.add_flag(
      "--special-in-messages", options.trust_messages,
      "special tokens written in messages (\"<|im_end|>\") become those tokens; by default they are plain "
      "text, so that nobody can end a turn or speak in another role"));
}

Result<chat::ChatTemplate> load_chat_template(const GgufFile& file, const ChatOptions& options) {
  if (options.template_file.empty()) return chat::ChatTemplate::from_gguf(file, options.template_name);
  if (!options.template_name.empty())
    return Error::usage("--template-name chooses among the model's templates; --chat-template gives another one");
  return chat::ChatTemplate::from_file(options.template_file);
}

}  // namespace spate::app
