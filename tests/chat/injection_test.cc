// Every published template, with a vocabulary in which everything that it spells like a control token is one: messages
// that are full of these must give the same control tokens as harmless ones.
#include <cctype>
#include <set>

#include "chat_testing.h"

namespace spate::testing {
namespace {

// What looks like a control token in the source: "<|im_end|>", "<end_of_turn>", "[INST]", "<\uFF5CUser\uFF5C>".
std::set<std::string> marks_in(const std::string& source) {
  std::set<std::string> marks = {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"};
  for (size_t begin = 0; begin < source.size(); ++begin) {
    if (source[begin] != '<' && source[begin] != '[') continue;
    const char close = source[begin] == '<' ? '>' : ']';
    const size_t end = source.find_first_of(std::string(" \n'\"{}(),=") + close, begin + 1);
    if (end == std::string::npos || source[end] != close || end - begin < 3) continue;
    const std::string mark = source.substr(begin, end + 1 - begin);
    const bool is_index = mark[0] == '[' && std::isupper(static_cast<unsigned char>(mark[mark[1] == '/' ? 2 : 1])) == 0;
    if (!is_index && mark.find('<', 1) == std::string::npos) marks.insert(mark);
  }
  // Put together by the template: '<|' + role + '|>'.
  for (const char* role : {"system", "user", "assistant", "tool"}) marks.insert(std::string("<|") + role + "|>");
  return marks;
}

std::vector<TokenId> structure_of(const chat::PromptEncoder& encoder, const std::vector<TokenId>& ids) {
  std::vector<TokenId> structure;
  for (const TokenId id : ids)
    if (encoder.is_structural(id)) structure.push_back(id);
  return structure;
}

// The case with this text in the place of every content, and in arguments of calls; with another one in what the
// assistant said.
Json with_content(Json values, const std::string& text, const std::string& of_assistant) {
  for (Json& message : values["messages"]) {
    if (message.contains("content")) message["content"] = message["role"] == "assistant" ? of_assistant : text;
    if (message.contains("tool_calls"))
      for (Json& call : message["tool_calls"]) call["function"]["arguments"] = {{"city", text}};
  }
  return values;
}

struct Counts {
  int n_compared = 0, n_with_control = 0, n_relaxed = 0;
};

void compare(const std::string& name, TokenKind kind, Counts& counts) {
  const chat::ChatTemplate chat_template = published_template(name);
  const std::set<std::string> marks = marks_in(chat_template.source());
  std::vector<NamedToken> named;
  std::string evil, evil_answer;
  for (const std::string& mark : marks) {
    named.push_back({mark, kind});
    evil += "x" + mark;
    // Templates look for the reasoning in an answer, and set it apart by tokens of their own.
    if (mark.find("think") == std::string::npos) evil_answer += "x" + mark;
  }
  const auto tokenizer = tokenizer_of(byte_level_file(named));
  const chat::PromptEncoder strict(*tokenizer, chat_template), relaxed(*tokenizer, chat_template, true);
  const Json cases = published_json("cases.json");
  for (const auto& [case_name, values] : cases.items()) {
    SCOPED_TRACE(name + ": " + case_name);
    const auto harmless = chat_template.render(conversation_of(with_content(values, "xy", "xy")), kNames);
    const auto hostile =
        chat_template.render(conversation_of(with_content(values, evil + "y", evil_answer + "y")), kNames);
    if (!harmless.ok() || !hostile.ok()) continue;  // the template refuses this conversation
    const auto expected = structure_of(strict, strict.encode(*harmless));
    const auto ids = strict.encode(*hostile);
    EXPECT_EQ(structure_of(strict, ids), expected);
    EXPECT_EQ(tokenizer->decode(ids, true), hostile->text);
    ++counts.n_compared;
    counts.n_with_control += !expected.empty();
    counts.n_relaxed += structure_of(relaxed, relaxed.encode(*hostile)).size() > expected.size();
  }
}

TEST(Injection, ControlTokensInMessages_ChangeNoControlTokenOfAnyPublishedTemplate) {
  SPATE_REQUIRE_SHARED("golden/templates");
  Counts counts;
  for (const std::string& name : published_templates()) compare(name, TokenKind::kControl, counts);
  EXPECT_GT(counts.n_compared, 330);
  EXPECT_GT(counts.n_with_control, 300);
  EXPECT_EQ(counts.n_relaxed, counts.n_compared);
  std::printf("%d conversations, %d with control tokens\n", counts.n_compared, counts.n_with_control);
}

// Some files call the tokens between turns user-defined.
TEST(Injection, TheSameWhereTheFileCallsThemUserDefined) {
  SPATE_REQUIRE_SHARED("golden/templates");
  Counts counts;
  for (const std::string& name : published_templates()) compare(name, TokenKind::kUserDefined, counts);
  EXPECT_GT(counts.n_compared, 330);
  EXPECT_GT(counts.n_with_control, 300);
}

// Real vocabularies, with every control token that they have.
TEST(Injection, VocabulariesOfPublishedModels) {
  SPATE_REQUIRE_SHARED("vocab");
  SPATE_REQUIRE_SHARED("golden/templates");
  struct Case {
    const char* vocab;
    const char* name;
  };
  for (const Case& c : {Case{"vocab/qwen2.gguf", "Qwen-Qwen2.5-7B-Instruct"},
                        Case{"vocab/llama-bpe.gguf", "meta-llama-Llama-3.1-8B-Instruct"},
                        Case{"vocab/llama-spm.gguf", "mistralai-Mistral-Nemo-Instruct-2407"}}) {
    SCOPED_TRACE(c.vocab);
    const GgufFile file = GgufFile::open(shared_path(c.vocab)).value();
    const auto tokenizer = Tokenizer::create(Vocab::from_gguf(file).value()).value();
    const chat::ChatTemplate chat_template = published_template(c.name);
    const chat::PromptEncoder strict(*tokenizer, chat_template), relaxed(*tokenizer, chat_template, true);
    const auto names = chat::TemplateNames::of(tokenizer->vocab(), expected_now());
    std::string evil;
    size_t n_special = 0;
    for (TokenId id = 0; id < tokenizer->vocab().size(); ++id) {
      if (!strict.is_structural(id)) continue;
      evil += " " + tokenizer->vocab().tokens[id];
      ++n_special;
    }
    ASSERT_GE(n_special, 3u);
    const auto structure = [&](const chat::PromptEncoder& encoder, const std::string& content) {
      std::vector<TokenId> found;
      for (const TokenId id : encoder.encode(chat_template.render(one_message(content), names).value()))
        if (encoder.is_structural(id)) found.push_back(id);
      return found;
    };
    EXPECT_EQ(structure(strict, evil), structure(strict, "harmless"));
    EXPECT_EQ(structure(relaxed, evil).size(), structure(strict, "harmless").size() + n_special);
  }
}

}  // namespace
}  // namespace spate::testing
