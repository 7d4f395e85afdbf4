#include "text/pre_tokenizers.h"

#include <algorithm>

namespace spate {

namespace {

using Step = SplitStep::Kind;

constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::string_view kDigit = R"(\p{N})";
constexpr std::string_view kDigits1To3 = R"(\p{N}{1,3})";
constexpr std::string_view kThreeAsciiDigits = R"([0-9][0-9][0-9])";

constexpr std::string_view kLlama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                                     R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                                    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Letters with case, as DeepSeek LLM's tokenizer lists them (not a Unicode property: Georgian Mkhedruli is missing).
constexpr std::string_view kDeepSeekCasedLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD})"
    R"(\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}ᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D})"
    R"(\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE})"
    R"(\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4})"
    R"(\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128})"
    R"(\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184})"
    R"(\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B})"
    R"(\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17})"
    R"(Ａ-Ｚａ-ｚ\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2})"
    R"(\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)";

constexpr std::string_view kDeepSeekCjk = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr std::string_view kHanAndKana = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";

// Punctuation directly before ASCII letters goes with them; marks count as letters.
constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kBloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";

constexpr PreTokenizer kTable[] = {
    {.names = "default",
     .source = "llama.cpp, llama-vocab.cpp, DEFAULT: the ecosystem's fallback for files without tokenizer.ggml.pre",
     .steps = {{{Step::kPattern, R"([\p{P}$+<=>^~|]+)"},
                {Step::kPattern, kGpt2},
                {Step::kPattern, R"(\p{N}+)"},
                {Step::kPattern, kThreeAsciiDigits}}}},

    {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling jina-es jina-de jina-v2-es jina-v2-de jina-v1-en "
              "jina-v2-code roberta-bpe gigachat a.x-4.0 mellum modern-bert exaone4",
     .source = "openai-community/gpt2: tokenizer.json, ByteLevel with its own pattern",
     .steps = {{{Step::kPattern, kGpt2}}}},

    {.names = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
     .source = "bigcode/starcoder2-3b: tokenizer.json, Digits (individual), ByteLevel",
     .steps = {{{Step::kPattern, kDigit}, {Step::kPattern, kGpt2}}}},

    {.names = "falcon",
     .source = "tiiuae/falcon-7b: tokenizer.json, Punctuation (contiguous), ByteLevel, Split [0-9][0-9][0-9]",
     .steps = {{{Step::kPattern, R"([\p{P}$+<=>^~|`]+)"},
                {Step::kPattern, kGpt2},
                {Step::kPattern, kThreeAsciiDigits}}}},

    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     .source = "meta-llama/Meta-Llama-3-8B: tokenizer.json, Split, ignore_merges",
     .steps = {{{Step::kPattern, kLlama3}}},
     .ignore_merges = true,
     .add_bos = true},

    {.names = "dbrx smaug-bpe chatglm-bpe glm4",
     .source = "databricks/dbrx-base: tokenizer.json (cl100k), the pattern of Llama 3",
     .steps = {{{Step::kPattern, kLlama3}}}},

    {.names = "minicpm5",
     .source = "openbmb/MiniCPM5-1B: tokenizer.json, as llama.cpp's llama-vocab.cpp quotes it",
     .steps = {{{Step::kPattern, kDigits1To3},
                {Step::kPattern, R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+)"
                                 R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
     .ignore_merges = true},

    {.names = "jais-2",
     .source = "llama.cpp, llama-vocab.cpp, JAIS2, which quotes tokenizer.json; runs of spaces go in powers of two",
     .steps = {{{Step::kPattern,
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
                 R"(|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S))"
                 R"(|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"}}}},

    {.names = "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan solar-open megrez grok-2",
     .source = "Qwen/Qwen2-7B: tokenizer.json, Split",
     .steps = {{{Step::kPattern, kQwen2}}}},

    {.names = "qwen35",
     .source = "llama.cpp, llama-vocab.cpp, QWEN35, which quotes tokenizer.json; marks go with letters",
     .steps = {{{Step::kPattern, R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})"
                                 R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}},

    {.names = "seed-coder",
     .source = "llama.cpp, llama-vocab.cpp, SEED_CODER, which quotes tokenizer.json",
     .steps = {{{Step::kPattern, R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1})"
                                 R"(| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}},

    // Published with the possessive [^\r\n\p{L}\p{N}]?+ and [^\s\p{L}\p{N}]++.
    {.names = "bailingmoe bailingmoe2 llada-moe",
     .source = "llama.cpp, llama-vocab.cpp, BAILINGMOE, which quotes tokenizer.json",
     .steps = {{{Step::kPattern, R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
                                 R"(|\s*[\r\n]|\s+(?!\S)|\s+)"}}}},

    {.names = "exaone-moe",
     .source = "llama.cpp, llama-vocab.cpp, EXAONE_MOE, which quotes tokenizer.json; single spaces join words",
     .steps = {{{Step::kPattern,
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})"
                 R"(| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"}}}},

    {.names = "tekken",
     .source = "mistralai/Mistral-Nemo-Base-2407: tokenizer.json, Split",
     .steps = {{{Step::kPattern, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                 R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                 R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
     .ignore_merges = true,
     .add_bos = true},

    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2",
     .source = "openai/gpt-oss-20b: tokenizer.json (o200k), Split",
     .steps = {{{Step::kPattern, kO200k}}}},

    {.names = "granite-embed-multi-97m",
     .source = "llama.cpp, llama-vocab.cpp, GRANITE_EMB_MULTI: the pattern of o200k, ignore_merges",
     .steps = {{{Step::kPattern, kO200k}}},
     .ignore_merges = true},

    {.names = "tiny_aya cohere2moe",
     .source =
         R"(llama.cpp, llama-vocab.cpp, TINY_AYA, which quotes tokenizer.json: \d{1,3}(?=(?:\d{3})*\b), then o200k)",
     .steps = {{{Step::kThousandsOfWord, R"(\d)"}, {Step::kPattern, kO200k}}}},

    {.names = "kimi-k2",
     .source = "moonshotai/Kimi-K2-Instruct: tokenization_kimi.py, as llama.cpp's unicode.cpp quotes it",
     .steps = {{{Step::kPattern, R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
                                 R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
                                 R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
                                 R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
                                 R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}}},

    {.names = "youtu",
     .source = "llama.cpp, llama-vocab.cpp, YOUTU",
     .steps = {{{Step::kPattern,
                 R"([가-힣\x{3131}-\x{318E}]+|[！…“”‘’—：；，、-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+)"
                 R"(|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)"},
                {Step::kPattern, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
                                 R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
                                 R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
     .ignore_merges = true},

    {.names = "deepseek-llm",
     .source =
         "llama.cpp, llama-vocab.cpp, DEEPSEEK_LLM; single digits as the DeepSeek LLM paper says (2401.02954, 2.1)",
     .steps = {{{Step::kPattern, R"([\r\n])"},
                {Step::kPattern, kDeepSeekCasedLetters},
                {Step::kPattern, R"(\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+)"},
                {Step::kPattern, R"(\s+$)"},
                {Step::kPattern, kDeepSeekCjk},
                {Step::kPattern, kDigit}}}},

    {.names = "deepseek-coder",
     .source = "llama.cpp, llama-vocab.cpp, DEEPSEEK_CODER",
     .steps = {{{Step::kPattern, R"([\r\n])"},
                {Step::kPattern, R"(\s?\p{L}+)"},
                {Step::kPattern, R"(\s?\p{P}+)"},
                {Step::kPattern, kDeepSeekCjk},
                {Step::kPattern, kDigit}}}},

    {.names = "deepseek-v3 hunyuan-dense joyai-llm",
     .source = "deepseek-ai/DeepSeek-V3: tokenizer.json, three Splits (llama.cpp, llama-vocab.cpp, DEEPSEEK3_LLM)",
     .steps = {{{Step::kPattern, kDigits1To3}, {Step::kPattern, kHanAndKana}, {Step::kPattern, kDeepSeekV3}}}},

    {.names = "afmoe",
     .source = "llama.cpp, llama-vocab.cpp and unicode.cpp, AFMOE: digits in threes from the right, then two patterns",
     .steps = {{{Step::kThousands, kDigit},
                {Step::kPattern,
                 R"([一-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}\x{FF65}-\x{FF9F})"
                 R"(\x{2F00}-\x{2FDF}\x{0E40}-\x{0E7F}\x{0E80}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F})"
                 R"(\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+)"},
                {Step::kPattern, kDeepSeekV3}}}},

    {.names = "superbpe",
     .source = R"(llama.cpp, llama-vocab.cpp, SUPERBPE: \p{N}+, then (?=(\d{3})+(?!\d)))",
     .steps = {{{Step::kPattern, R"(\p{N}+)"}, {Step::kThousandsInside, R"(\d)"}}}},

    {.names = "bloom poro-chat gpt3-finnish",
     .source = "bigscience/bloom: tokenizer.json, Split",
     .steps = {{{Step::kPattern, kBloom}}}},

    {.names = "viking",
     .source = "llama.cpp, llama-vocab.cpp, VIKING: the pattern of BLOOM, then single digits",
     .steps = {{{Step::kPattern, kBloom}, {Step::kPattern, kDigit}}}},

    {.names = "chameleon",
     .source = "facebook/chameleon-7b: tokenizer.json, as llama.cpp's llama-vocab.cpp follows it",
     .steps = {{{Step::kPattern, R"(<sentinel:[0-9]+>)"},
                {Step::kPattern, R"((IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z)"},
                {Step::kPattern, R"([\t\n]|    |  )"},
                {Step::kPattern, kDigit},
                {Step::kPattern, R"([\p{P}!-/:-@\[-`{-~])"},
                {Step::kPattern, kGpt2}}},
     .add_bos = true},
};

}  // namespace

bool PreTokenizer::has_name(std::string_view name) const {
  for (size_t begin = 0; begin < names.size();) {
    const size_t end = std::min(names.find(' ', begin), names.size());
    if (names.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

std::span<const PreTokenizer> pre_tokenizers() {
  return kTable;
}

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  const auto row = std::find_if(std::begin(kTable), std::end(kTable), [&](const auto& r) { return r.has_name(name); });
  return row == std::end(kTable) ? nullptr : row;
}

bool is_raw_utf8_pre_tokenizer(std::string_view name) {
  return name == "gemma4" || name == "granite-embed-multi-311m" || name == "sarvam-moe" || name == "whitespace";
}

}  // namespace spate
