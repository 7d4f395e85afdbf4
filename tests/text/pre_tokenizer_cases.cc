#include "text/pre_tokenizer_cases.h"

#include <cctype>
#include <ostream>

namespace spate {

void PrintTo(const PreTokenizer& row, std::ostream* out) {
  *out << row.names;
}

}  // namespace spate

namespace spate::testing {

namespace {

using Cases = std::string_view[];

// Punctuation and digits leave first, so contractions fall apart; then GPT-2's pattern.
constexpr Cases kDefault = {
    "Hello¦ world", "it¦'¦s",        "I¦'¦m¦ WE¦'¦VE",     "123¦45",     " ¦123¦4",
    "１２３４",     "foo¦ ¦(¦bar¦)", "a¦\n¦\n¦b",          "北京¦ 你好", "a¦  ¦ b",
    "x¦<=¦y",       "`¦code¦`",      "e¦\u0301¦te¦\u0301", "½¦x",        "tail¦   ",
};

constexpr Cases kGpt2 = {
    "Hello¦ world", "it¦'s¦ it¦'¦S", "I¦'ll¦ WE¦'¦VE",     "12345¦ 678", "北京¦ 你好", "a¦\n¦\n¦b", "x¦  \n ¦ y",
    "Hi¦!!!¦\n\n",  "foo¦ (¦bar¦)",  "e¦\u0301¦te¦\u0301", "a¦  ¦ b",    "\t¦indent",  "½¦x",       "tail¦   ",
};

constexpr Cases kStarcoder = {
    "Hello¦ world", "it¦'s¦ it¦'¦S", "1¦2¦3¦4¦5",          "x¦ ¦1¦ y", "½¦x",      "北京¦2¦0¦2¦4",
    "a¦\n¦\n¦b",    "foo¦ (¦bar¦)",  "e¦\u0301¦te¦\u0301", "a¦  ¦ b",  "tail¦   ", "Hi¦!!!¦ ?¦\n",
};

constexpr Cases kFalcon = {
    "Hello¦ world", "it¦'¦s",  "123¦45", " ¦123¦4",  "foo¦ ¦(¦bar¦)",      "a¦\n¦\n¦b",
    "北京¦ 你好",   "a¦  ¦ b", "x¦<=¦y", "`¦code¦`", "e¦\u0301¦te¦\u0301", "tail¦   ",
};

constexpr Cases kLlama3 = {
    "Hello¦ world",
    "I¦'ll¦ it¦'s¦ WE¦'VE",
    "don¦'t¦do",
    "123¦45¦ ¦6",
    "北京¦ 你好",
    "a¦\n\n\n¦b",
    "x¦  \n¦ ¦ y",
    "Hi¦!!!\n\n¦Bye",
    "(foo¦)¦ \"¦bar¦\"",
    "e¦\u0301te¦\u0301",
    "\tindent",
    "a¦  ¦ b",
    "tail¦   ",
    "3¦.¦14",
    "½¦x",
};

constexpr Cases kMiniCpm5 = {
    "Hello¦ world", "I¦'ll¦ it¦'s¦ WE¦'VE", "123¦45¦ ¦6",  "a¦1¦b",   " ¦7",      "3¦.¦14",         "½¦x",
    "北京¦ 你好",   "(foo¦)¦ \"¦bar¦\"",    "x¦  \n¦ ¦ y", "a¦  ¦ b", "\tindent", "Hi¦!!!\n\n¦Bye", "e¦\u0301te¦\u0301",
    "tail¦   ",
};

// Runs of spaces go in powers of two.
constexpr Cases kJais2 = {
    "Hello¦ world",  "I¦'ll¦ it¦'s¦ WE¦'VE", "123¦45",    "a¦ ¦1",       "a¦  ¦ b",    "a¦  ¦ ¦ b",      "a¦    ¦ b",
    "x¦        ¦ y", "x¦                ",   "tail¦  ¦ ", "x¦  \n¦ ¦ y", "北京¦ 你好", "Hi¦!!!\n\n¦Bye", "(foo¦)",
};

constexpr Cases kQwen2 = {
    "Hello¦ world", "I¦'ll¦ it¦'s¦ WE¦'VE", "don¦'t¦do",         "1¦2¦3¦4¦5¦ ¦6", "北京¦ 你好",        "a¦\n\n\n¦b",
    "x¦  \n¦ ¦ y",  "Hi¦!!!\n\n¦Bye",       "(foo¦)¦ \"¦bar¦\"", "\tindent",      "e¦\u0301te¦\u0301", "a¦  ¦ b",
    "tail¦   ",
};

// Marks go with letters, and a mark can begin a word.
constexpr Cases kQwen35 = {
    "Hello¦ world", "I¦'ll¦ WE¦'VE",  "e\u0301te\u0301",   "1¦2¦3¦4¦5",   "नमस्ते¦ दुनिया",       " \u0301x",  "!\u0301a",
    "\u0301¦\n",    "Hi¦!!!\n\n¦Bye", "(foo¦)¦ \"¦bar¦\"", "x¦  \n¦ ¦ y", "北京¦ ¦2¦0¦2¦4¦年", "tail¦ \t ",
};

// Punctuation does not take the line breaks behind it along.
constexpr Cases kSeedCoder = {
    "Hello¦ world", "I¦'ll¦ it¦'s¦ WE¦'VE", "1¦2¦3¦4¦5",  "Hi¦!!!¦\n\n¦Bye", "a¦;¦\r\n¦\tb",
    "x¦  \n¦ ¦ y",  "(foo¦)¦ \"¦bar¦\"",    "北京¦ 你好", "a¦  ¦ b",         "\tindent",
    "½¦ ¦2",        "e¦\u0301te¦\u0301",    "tail¦   ",
};

constexpr Cases kBailingMoe = {
    "Hello¦ world",
    "I¦'ll¦ it¦'S¦ WE¦'VE",
    "'s¦ab",
    "1¦2¦3¦4¦5",
    "a¦\n\n\n¦b",
    "a¦\r\n¦b",
    "x¦  \n\n¦ ¦ y",
    "Hi¦!!!\n\n¦Bye",
    "(foo¦)¦ \"¦bar¦\"",
    "北京¦ 你好",
    "\tindent",
    "a¦  ¦ b",
    "e¦\u0301te¦\u0301",
    "tail¦   ",
};

// Words joined by single spaces stay together; punctuation takes one line break or slash along.
constexpr Cases kExaoneMoe = {
    "Hello world again", "two¦ ¦ spaces", "I¦'ll¦ go",          "WE¦'VE¦ it¦'S", "a¦ ¦1¦ b",   "1¦2¦3¦4¦5", "path¦//\n",
    "Hi¦!!!\n¦\n¦Bye",   "a¦\n\n\n¦b",    "e\u0301te\u0301 la", "北京 你好",     "(foo bar¦)", "\tx y",     "tail¦   ",
};

// No contractions; a capital begins a word after lower case.
constexpr Cases kTekken = {
    "Hello¦ world", "Hello¦World",       "HTTPServer",    "i¦Phone",         "ABC¦ def",   "don¦'t¦ WE¦'VE¦ it¦'s",
    "1¦2¦3¦4¦5",    "北京abc",           "北京¦ABC",      "e\u0301te\u0301", "x¦!!!/\n¦y", "a¦\n\n¦ b",
    "a¦  ¦ b",      "(foo¦)¦ \"¦Bar¦\"", "tail¦ \n\n¦  ",
};

// Contractions stay with their word.
constexpr Cases kO200k = {
    "don't",
    "WE'VE¦ been",
    "I'LL¦GO",
    "'S",
    "it's¦ '¦quoted¦'",
    "123¦456¦78",
    "½½½¦½",
    "Hello¦World",
    "北京¦ABC",
    "e\u0301te\u0301",
    "a¦/b¦//\n¦c",
    "x¦  \n¦ ¦ y",
    "a¦  ¦ b",
    "Hi¦!!!\r\n\r\n¦Bye",
};

constexpr Cases kTinyAya = {
    "1¦234¦567", "12",        "1¦000¦ ¦2¦000¦000",     "123¦4¦abc",  "a¦1¦234", "12¦345¦.¦678", "123¦45¦_¦6",
    "½¦1¦234",   "１¦２３４", "v¦1¦ costs¦ ¦12¦345¦!", "北京¦2¦024", "don't",   "x¦  \n¦ ¦ y",  "Hello¦World",
};

// Han is set apart from all other letters.
constexpr Cases kKimiK2 = {
    "Hello¦ world", "don't¦ WE'VE", "北京¦ABC",    "abc¦北京", " ¦北京",      "(¦北京¦)",        "こんにちは¦世界",
    "〇一々",       "123¦45",       "Hello¦World", "a¦/\n¦b",  "x¦  \n¦ ¦ y", "e\u0301te\u0301", "Hi¦!!!\n\n¦Bye",
};

constexpr Cases kYoutu = {
    "Hello¦ world", "don't",          "WE'VE",  "1¦2¦3¦4¦5", "안녕하세요¦ world", "a¦안녕",      "你好¦，¦世界¦！",
    "“¦hi¦”",       "こんにちは世界", "ㄅㄆㄇ", " ¦你好",    "a¦/b¦//\n¦c",       "x¦  \n¦ ¦ y", "Hello¦World",
};

// The class for punctuation has the range :-~, which holds the ASCII letters: inside a word with other letters they are
// cut out.
constexpr Cases kDeepSeekLlm = {
    "Hello¦ world", "it¦'¦s",       "é¦t¦é",           "привет¦ мир", "a¦\n¦\n¦b",    "\r¦\n",   "1¦2¦3¦4¦5", "x¦1¦ y",
    "北京¦ ¦你好",  "カタカナ한국", "你好¦，¦世界¦。", "Hi¦!!!",      "foo¦ (¦bar¦)", "a¦  ¦ b", "tail¦   ",
};

constexpr Cases kDeepSeekCoder = {
    "Hello¦ world", "it¦'¦s", "été",   "a¦\n¦\n¦b", "1¦2¦3¦4¦5", "北京¦ ¦你好", "foo¦ (¦bar¦);",
    "a¦ =¦ b",      "x¦+=¦1", "x¦_¦y", "a¦\tb",     "a¦  ¦ b",   "e¦\u0301",    "tail¦  ",
};

// One punctuation mark goes with the ASCII letters behind it.
constexpr Cases kDeepSeekV3 = {
    "Hello¦ world",   "it¦'s¦ WE¦'VE", "123¦45¦ ¦6",  "a¦½¦b",         "北京¦abc",        "こんにちは",
    "(foo¦)",         "foo¦ _¦bar",    "été",         "héllo¦-w¦örld", "e\u0301te\u0301", "\u0301a",
    "Hi¦!!!\n\n¦Bye", "a¦  ¦ b",       "x¦  \n¦ ¦ y", "tail¦   ",
};

constexpr Cases kAfmoe = {
    "1¦234¦567", "12¦345¦abc",  "123",    "1¦000¦.¦5", "½",       "Hello¦ world",   "it¦'s¦ WE¦'VE",
    "北京¦abc",  "안녕¦ world", "(foo¦)", "été",       "a¦  ¦ b", "Hi¦!!!\n\n¦Bye", "x¦  \n¦ ¦ y",
};

// Only digits are set apart: tokens span words.
constexpr Cases kSuperBpe = {
    "Hello world, it's me", "it's ¦5", "1¦234¦567", "123¦456",  "a¦12¦b", "12¦ ¦345¦ ¦6¦789", "3¦.¦14¦159",
    "北京¦2¦024¦年",        "x¦½¦y",   "½¦123",     "12½3¦456", "a\n\nb", "  tabs\t! ",
};

constexpr Cases kBloom = {
    "Hello¦ world", "it's",    "a¦,¦b",  "foo¦ (¦bar¦)", "x¦ |¦ y",        "12345",       "你好¦，¦世界¦。",
    "a¦\n\n¦b",     "a¦  ¦ b", "Hi¦!!!", "foo-bar_baz",  "wait¦…¦ what¦?", "नमस्ते¦।¦ फिर", "tail¦  ",
};

constexpr Cases kViking = {
    "Hello¦ world", "it's",     "1¦2¦3¦4¦5", "a¦1¦b¦2",    " ¦4¦2",           "½¦x",     "a¦,¦b",
    "foo¦ (¦bar¦)", "a¦\n\n¦b", "a¦  ¦ b",   "Hi¦!!!¦ ¦7", "你好¦，¦世界¦。", "tail¦  ",
};

constexpr Cases kChameleon = {
    "Hello¦ world", "it¦'¦s",   "a¦\n¦\n¦b",          "a¦\t¦b",         "a¦  ¦b",
    "a¦  ¦ b",      "a¦    ¦b", "1¦2¦3¦4¦5",          "foo¦(¦bar¦)",    "!¦!¦!",
    "a¦ ¦=¦ b",     "été",      "<¦sentinel¦:¦1¦2¦>", "x¦IMGIMGABCZ¦y", "北京¦ 你好",
};

constexpr PreTokenizerCases kTable[] = {
    {"default", kDefault},
    {"gpt-2", kGpt2},
    {"starcoder", kStarcoder},
    {"falcon", kFalcon},
    {"llama-bpe", kLlama3},
    {"dbrx", kLlama3},
    {"minicpm5", kMiniCpm5},
    {"jais-2", kJais2},
    {"qwen2", kQwen2},
    {"qwen35", kQwen35},
    {"seed-coder", kSeedCoder},
    {"bailingmoe", kBailingMoe},
    {"exaone-moe", kExaoneMoe},
    {"tekken", kTekken},
    {"gpt-4o", kO200k},
    {"granite-embed-multi-97m", kO200k},
    {"tiny_aya", kTinyAya},
    {"kimi-k2", kKimiK2},
    {"youtu", kYoutu},
    {"deepseek-llm", kDeepSeekLlm},
    {"deepseek-coder", kDeepSeekCoder},
    {"deepseek-v3", kDeepSeekV3},
    {"afmoe", kAfmoe},
    {"superbpe", kSuperBpe},
    {"bloom", kBloom},
    {"viking", kViking},
    {"chameleon", kChameleon},
};

}  // namespace

std::span<const PreTokenizerCases> pre_tokenizer_cases() {
  return kTable;
}

void PrintTo(const PreTokenizerCases& cases, std::ostream* out) {
  *out << cases.name;
}

std::string first_name(const PreTokenizer& row) {
  return std::string(row.names.substr(0, row.names.find(' ')));
}

std::string test_name(std::string_view name) {
  std::string out(name);
  for (char& c : out)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return out;
}

}  // namespace spate::testing
