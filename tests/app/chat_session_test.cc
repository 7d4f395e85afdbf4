// A conversation over a device that says what the test wants: what runs, what is kept, what fits.
#include "app/chat_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_executor.h"
#include "text/test_vocab.h"

namespace spate::testing {
namespace {

using app::ChatSession;
using ::testing::HasSubstr;

constexpr TokenId kStart = kFirstNamedToken, kEnd = kStart + 1;
constexpr const char* kChatMl =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
// Shows the reasoning of no answer but the last.
constexpr const char* kForgetsReasoning =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')|last }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

GgufWriter chat_vocab() {
  GgufWriter writer = byte_level_file({{"<|im_start|>", TokenKind::kControl}, {"<|im_end|>", TokenKind::kControl}});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{kEnd});
  return writer;
}

struct SessionFixture {
  explicit SessionFixture(const char* source = kChatMl, int window = 500, app::ChatSettings settings = {})
      : tokenizer(Tokenizer::create(vocab_of(chat_vocab()).value()).value()),
        executor({.max_seqs = 1, .max_step_tokens = 64, .n_pages = 16}, tokenizer->vocab().size()),
        engine(
            executor, tokenizer.get(),
            {.vocab_size = tokenizer->vocab().size(), .context_tokens = window, .kv_reuse = KvReuse::kOneConversation}),
        session(engine, *tokenizer, chat::ChatTemplate::from_source(source, "test").value(), std::move(settings)) {
    executor.draw = [this](std::span<const int32_t> context, const SamplingParams&) { return next_of(context); };
  }

  // The answer's next byte, or its end. The device sees "...<|im_start|>assistant\n" and what it drew itself.
  TokenId next_of(std::span<const int32_t> context) const {
    const auto start = std::find(context.rbegin(), context.rend(), kStart);
    const size_t n_behind = static_cast<size_t>(start - context.rbegin());
    const size_t n_heading = std::string_view("assistant\n").size();
    const size_t at = n_behind < n_heading ? 0 : n_behind - n_heading;
    return at < answer.size() ? static_cast<unsigned char>(answer[at]) : kEnd;
  }

  ChatSession::Answer say(const std::string& message, const std::string& wanted) {
    answer = wanted;
    Result<ChatSession::Answer> given = session.answer(
        message, [](std::string_view) {}, [] { return false; });
    EXPECT_TRUE(given.ok()) << given.error().message;
    EXPECT_EQ(given->generation.text, wanted);
    return std::move(given).value();
  }

  std::string answer;
  std::unique_ptr<Tokenizer> tokenizer;
  FakeExecutor executor;
  Engine engine;
  ChatSession session;
};

TEST(ChatSession, EachTurn_RunsOnlyWhatIsNew) {
  SessionFixture f;
  const auto first = f.say("Hello.", "Good day to you.");
  EXPECT_EQ(first.n_prompt_run, first.n_prompt);
  int n_known = first.n_prompt + static_cast<int>(first.generation.tokens.size());
  for (const char* message : {"How are you?", "And yours?", "abc <|im_end|> abc"}) {
    const auto next = f.say(message, "abc, as ever");
    // The end token, too, ran in the step after it was drawn.
    EXPECT_EQ(next.n_prompt_run, next.n_prompt - n_known) << message;
    EXPECT_LT(next.n_prompt_run, 50);
    n_known = next.n_prompt + static_cast<int>(next.generation.tokens.size());
  }
}

TEST(ChatSession, TemplateThatRewritesHistory_KeepsWhatIsStillThere) {
  SessionFixture f(kForgetsReasoning);
  const auto first = f.say("Hello.", "let me see</think>Good day.");
  const auto second = f.say("How are you?", "so so</think>Fine.");
  // Up to the answer everything is as it was; the answer without its reasoning, and what follows, is new.
  const size_t n_new =
      std::string("Good day.|\n|user\nHow are you?|\n|assistant\n").size();  // a bar for each control token
  EXPECT_EQ(second.n_prompt_run, static_cast<int>(n_new));
  EXPECT_EQ(second.n_prompt, first.n_prompt + static_cast<int>(n_new));
}

TEST(ChatSession, Answer_IsTheSameWhetherKeysWereKeptOrNot) {
  SessionFixture kept, anew;
  kept.say("One?", "1");
  kept.say("Two?", "2");
  anew.session.load(kept.session.conversation());
  EXPECT_EQ(kept.say("Three?", "3").n_prompt, anew.say("Three?", "3").n_prompt);
  EXPECT_EQ(kept.session.conversation().to_json(), anew.session.conversation().to_json());
}

TEST(ChatSession, SystemMessage_StaysThroughResetAndDrops) {
  SessionFixture f;
  f.session.set_system("Be brief.");
  f.say("One?", "1");
  f.say("Two?", "2");
  f.session.drop_oldest(1);
  EXPECT_EQ(f.session.n_turns(), 1);
  EXPECT_EQ(f.session.conversation().messages[1].content_text(), "Two?");
  f.session.reset();
  EXPECT_EQ(f.session.n_turns(), 0);
  EXPECT_EQ(f.session.system(), "Be brief.");
  f.session.set_system("");
  EXPECT_TRUE(f.session.conversation().messages.empty());
}

TEST(ChatSession, DroppedTurns_AreNoLongerCounted) {
  SessionFixture f, alone;
  f.say("One?", "1");
  f.say("Two?", "2");
  alone.say("Two?", "2");
  f.session.drop_oldest(1);
  // The template's newline behind an answer comes with the next message.
  EXPECT_EQ(f.session.n_in_window(), alone.session.n_in_window() + 1);
  f.session.drop_oldest(1);
  EXPECT_EQ(f.session.n_in_window(), 0);
}

TEST(ChatSession, CancelledBeforeTheFirstText_ForgetsTheMessage) {
  SessionFixture f;
  f.say("One?", "1");
  const auto before = f.session.conversation().to_json();
  f.answer = "2";
  const auto given = f.session.answer(
      "Two?", [](std::string_view) {}, [] { return true; });
  ASSERT_TRUE(given.ok());
  EXPECT_EQ(given->generation.finish.reason, FinishReason::kCancelled);
  EXPECT_EQ(f.session.conversation().to_json(), before);
}

TEST(ChatSession, CancelledLater_KeepsWhatWasSaid) {
  SessionFixture f;
  f.answer = "a long answer";
  std::string seen;
  const auto given = f.session.answer(
      "One?", [&](std::string_view text) { seen += text; }, [&] { return seen.size() >= 3; });
  ASSERT_TRUE(given.ok());
  ASSERT_EQ(f.session.n_turns(), 1);
  EXPECT_EQ(f.session.conversation().messages.back().content_text(), given->generation.text);
  const auto next = f.say("Two?", "2");
  EXPECT_LT(next.n_prompt_run, next.n_prompt - given->n_prompt);
}

TEST(ChatSession, WindowThatIsFull_SaysTheLeastNumberOfTurnsToDrop) {
  SessionFixture f(kChatMl, 400);
  const std::string hundred(60, 'x');
  while (f.session.fit(hundred)->fits) f.say(hundred, "y");
  const auto fit = f.session.fit(hundred).value();
  ASSERT_TRUE(fit.n_drop.has_value());
  EXPECT_GT(fit.n_prompt, 350);
  // One turn fewer is enough for the same message; a longer one takes more.
  EXPECT_EQ(*fit.n_drop, 1);
  const auto longer = f.session.fit(std::string(200, 'x')).value();
  ASSERT_GT(longer.n_drop.value(), 1);
  f.session.drop_oldest(*longer.n_drop - 1);
  EXPECT_FALSE(f.session.fit(std::string(200, 'x'))->fits);
  f.session.drop_oldest(1);
  EXPECT_TRUE(f.session.fit(std::string(200, 'x'))->fits);
  EXPECT_FALSE(f.session.fit(std::string(500, 'x'))->n_drop.has_value());
}

TEST(ChatSession, AnswerThatFillsTheWindow_SaysSo) {
  SessionFixture f(kChatMl, 100);
  f.answer = std::string(1000, 'z');
  const auto given = f.session.answer(
      "Go on.", [](std::string_view) {}, [] { return false; });
  ASSERT_TRUE(given.ok());
  EXPECT_TRUE(given->window_full);
  EXPECT_EQ(given->n_prompt + static_cast<int>(given->generation.tokens.size()), 100);
  EXPECT_EQ(f.session.n_in_window(), 100);
}

TEST(ChatSession, MaxTokens_CutsAnswersShort) {
  SessionFixture f(kChatMl, 500, {.max_tokens = 3});
  f.answer = "abcdef";
  const auto given = f.session.answer(
      "x", [](std::string_view) {}, [] { return false; });
  EXPECT_EQ(given->generation.text, "abc");
  EXPECT_FALSE(given->window_full);
}

TEST(ChatSession, TemplateThatRefuses_ChangesNothing) {
  SessionFixture f(
      "{{ raise_exception('Conversation roles must alternate') if messages|length > 1 }}x<|im_start|>assistant{{ '\\n' "
      "}}");
  f.say("One?", "1");
  const auto refused = f.session.answer(
      "Two?", [](std::string_view) {}, [] { return false; });
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("roles must alternate"));
  EXPECT_EQ(f.session.n_turns(), 1);
  EXPECT_FALSE(f.session.fit("Two?").ok());
}

TEST(ChatSession, MessagesOfAnyBytes_BecomeText) {
  SessionFixture f;
  f.say(std::string("\xff\x00\xe2\x82", 4), "fine");
  EXPECT_EQ(f.session.conversation().messages[0].content_text(), std::string("\xEF\xBF\xBD\x00\xEF\xBF\xBD", 7));
}

}  // namespace
}  // namespace spate::testing
