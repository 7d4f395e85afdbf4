// Text from tokens through a real tokenizer: characters that straddle tokens, end tokens, stop strings.
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "engine/engine_fixture.h"
#include "text/tokenizer.h"

namespace spate {
namespace {

using testing::EngineFixture;

// A vocabulary of a few words and the bytes of "€" (E2 82 AC).
enum Token : int32_t { kEnd, kTurn, kOne, kTwo, kHash, kHashes, kUs, kEr, kE2, k82, kAc, kVocabSize };

std::unique_ptr<Tokenizer> small_tokenizer() {
  Vocab vocab;
  vocab.model = VocabModel::kSentencePiece;
  const auto add = [&](const char* text, TokenKind kind) {
    vocab.tokens.push_back(text);
    vocab.kinds.push_back(kind);
    vocab.scores.push_back(0);
  };
  add("</s>", TokenKind::kControl);
  add("<|im_end|>", TokenKind::kControl);
  add("▁one", TokenKind::kNormal);
  add("▁two", TokenKind::kNormal);
  add("#", TokenKind::kNormal);
  add("##", TokenKind::kNormal);
  add("▁Us", TokenKind::kNormal);
  add("er:▁you", TokenKind::kNormal);
  for (const char* byte : {"<0xE2>", "<0x82>", "<0xAC>"}) add(byte, TokenKind::kByte);
  vocab.eos = kEnd;
  vocab.end_of_generation = {kEnd, kTurn};
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(std::move(vocab));
  EXPECT_TRUE(tokenizer.ok());
  return std::move(tokenizer).value();
}

// An engine whose model says `script`, then " one" for ever.
struct TextFixture {
  explicit TextFixture(std::vector<int32_t> script)
      : tokenizer(small_tokenizer()),
        engine({4, 64, 40}, {.vocab_size = kVocabSize, .context_tokens = 200}, tokenizer.get()) {
    engine.executor.draw = [script](std::span<const int32_t> context, const SamplingParams&) {
      const size_t i = context.size() - 1;  // the prompt is one token
      return i < script.size() ? script[i] : kOne;
    };
  }
  const testing::Output& run(Request request) {
    request.prompt = {kOne};
    const RequestId id = engine.submit(std::move(request));
    engine.engine.run_until_idle();
    engine.expect_all_free();
    return engine.recorder[id];
  }

  std::unique_ptr<Tokenizer> tokenizer;
  EngineFixture engine;
};

TEST(EngineText, EndTokens_EndAndAreNotPrinted) {
  for (const int32_t end : {kEnd, kTurn}) {
    TextFixture f({kOne, kTwo, end, kOne});
    const testing::Output& output = f.run({.max_tokens = 20});
    EXPECT_EQ(output.text, " one two");
    EXPECT_EQ(output.finish->reason, FinishReason::kStop);
    EXPECT_EQ(output.finish->end_token, end);
    EXPECT_EQ(output.tokens, (std::vector<int32_t>{kOne, kTwo, end}));
  }
}

TEST(EngineText, IgnoreEos_GoesOnWithoutPrintingIt) {
  TextFixture f({kOne, kEnd, kTwo});
  const testing::Output& output = f.run({.max_tokens = 3, .ignore_eos = true});
  EXPECT_EQ(output.text, " one two");
  EXPECT_EQ(output.tokens.size(), 3u);
  EXPECT_EQ(output.finish->reason, FinishReason::kLength);
}

TEST(EngineText, OwnStopToken_EndsWithoutBeingPrinted) {
  TextFixture f({kOne, kTwo, kOne});
  const testing::Output& output = f.run({.max_tokens = 20, .stop_tokens = {kTwo}, .ignore_eos = true});
  EXPECT_EQ(output.text, " one");
  EXPECT_EQ(output.finish->end_token, kTwo);
}

TEST(EngineText, StopStringAcrossTokens_IsNeverEmitted) {
  TextFixture f({kOne, kUs, kTwo, kUs, kEr, kTwo});
  const testing::Output& output = f.run({.max_tokens = 20, .stop_strings = {"nothing", " User:"}});
  EXPECT_EQ(output.text, " one Us two");
  EXPECT_EQ(output.texts, (std::vector<std::string>{" one", " Us two"}));  // " Us" waits for what follows
  EXPECT_EQ(output.finish->reason, FinishReason::kStop);
  EXPECT_EQ(output.finish->stop_string, " User:");
  EXPECT_FALSE(output.finish->end_token);
  EXPECT_EQ(output.tokens, (std::vector<int32_t>{kOne, kUs, kTwo, kUs, kEr}));
}

TEST(EngineText, HeldBackText_ComesOutWhenNothingFollows) {
  TextFixture by_length({kOne, kHash});
  EXPECT_EQ(by_length.run({.max_tokens = 2, .stop_strings = {"###"}}).text, " one#");
  TextFixture by_end_token({kHashes, kEnd});
  EXPECT_EQ(by_end_token.run({.max_tokens = 9, .stop_strings = {"###"}}).text, "##");
  TextFixture by_stop({kHashes, kHashes});
  EXPECT_EQ(by_stop.run({.max_tokens = 9, .stop_strings = {"###"}}).text, "");
}

TEST(EngineText, HeldBackText_ComesOutOnCancel) {
  TextFixture f({kOne, kHashes});
  const RequestId id = f.engine.submit({.prompt = {kOne}, .max_tokens = 50, .stop_strings = {"###"}});
  while (f.engine.recorder[id].tokens.size() < 2) f.engine.engine.step();
  EXPECT_EQ(f.engine.recorder[id].text, " one");
  f.engine.engine.cancel(id);
  EXPECT_EQ(f.engine.recorder[id].text, " one##");
  f.engine.engine.run_until_idle();
}

TEST(EngineText, StopStringAcrossAPreemption_IsFoundAndNeverEmitted) {
  // Both reach their second page at once, and there is one: the second gives way with " Us" held back.
  const std::unique_ptr<Tokenizer> tokenizer = small_tokenizer();
  EngineFixture f({2, 64, 3}, {.vocab_size = kVocabSize, .context_tokens = 90}, tokenizer.get());
  f.executor.draw = [](std::span<const int32_t> context, const SamplingParams&) {
    return context.size() == 32 ? kUs : context.size() == 33 ? kEr : kOne;
  };
  std::string expected;
  for (int i = 0; i < 31; ++i) expected += " one";
  for (int i = 0; i < 2; ++i) f.submit({.prompt = {kOne}, .max_tokens = 60, .stop_strings = {" User:"}});
  f.engine.run_until_idle();
  for (RequestId id = 1; id <= 2; ++id) {
    EXPECT_EQ(f.recorder[id].text, expected);
    EXPECT_EQ(f.recorder[id].finish->stop_string, " User:");
    EXPECT_EQ(f.recorder[id].tokens.size(), 33u);
    EXPECT_EQ(f.recorder[id].finish->cost.n_preemptions, id == 2 ? 1 : 0);
  }
}

TEST(EngineText, CharacterAcrossTokens_ComesWhole) {
  TextFixture f({kE2, k82, kAc, kTwo});
  const testing::Output& output = f.run({.max_tokens = 4});
  EXPECT_EQ(output.texts, (std::vector<std::string>{"€", " two"}));
}

TEST(EngineText, CharacterCutShort_ComesAsAReplacement) {
  TextFixture f({kOne, kE2, k82});
  EXPECT_EQ(f.run({.max_tokens = 3}).text, " one\uFFFD");
}

TEST(EngineText, StopStringOfBytesAcrossTokens_IsFound) {
  TextFixture f({kOne, kE2, k82, kAc, kTwo, kE2, k82, kAc, kE2, k82, kAc});
  const testing::Output& output = f.run({.max_tokens = 20, .stop_strings = {"€€"}});
  EXPECT_EQ(output.text, " one€ two");
  EXPECT_EQ(output.finish->stop_string, "€€");
  EXPECT_EQ(output.tokens.size(), 11u);
}

}  // namespace
}  // namespace spate
