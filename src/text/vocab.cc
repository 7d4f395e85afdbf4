#include "text/vocab.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "base/utf8.h"
#include "text/pre_tokenizers.h"

namespace spate {

namespace {

constexpr int64_t kNoTokenInFile = 0xFFFFFFFF;

// Tokens that end a turn or a text in the models that name them so. A vocabulary's metadata names one end of sequence;
// a chat model may end its turn with another.
constexpr std::string_view kEndTokens[] = {
    "</s>",
    "<eos>",
    "<EOT>",
    "[EOT]",
    "_<EOT>",
    "[EOS]",
    "<|im_end|>",                               // ChatML
    "<|eot_id|>",                               // Llama 3
    "<|eom_id|>",                               // Llama 3: ends a message that calls a tool
    "<|eot|>",                                  // Llama 4
    "<|eom|>",                                  // Llama 4
    "<end_of_turn>",                            // Gemma
    "<turn|>",                                  // Gemma 4
    "<|end|>",                                  // Phi 3
    "<|endoftext|>",                            // GPT-2, Qwen, Phi
    "<|end_of_text|>",                          // Llama 3, Granite
    "<|end_of_turn|>",                          // OpenChat
    "<|END_OF_TURN_TOKEN|>",                    // Command R
    "<|EOT|>",                                  // DeepSeek Coder
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",  // DeepSeek
    "[|endofturn|]",                            // EXAONE
    "<end_of_utterance>",                       // SmolVLM
    "<|return|>",                               // gpt-oss
    "<|call|>",                                 // gpt-oss
    "<|calls|>",                                // Solar Open
    "<|flush|>",                                // Solar Open
};

// In the harmony format "<|end|>" only separates the messages of one turn.
constexpr std::string_view kHarmonyMessageEnd = "<|end|>";
constexpr std::string_view kHarmonyTurnEnds[] = {"<|return|>", "<|flush|>"};

bool is_special(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined;
}

class VocabReader {
 public:
  explicit VocabReader(const GgufFile& file) : file_(file) {}

  Result<Vocab> read() {
    SPATE_TRY_VOID(read_model());
    SPATE_TRY_VOID(read_tokens());
    SPATE_TRY_VOID(read_kinds());
    if (vocab_.model == VocabModel::kSentencePiece)
      SPATE_TRY_VOID(read_scores());
    else
      SPATE_TRY_VOID(read_merges());
    SPATE_TRY_VOID(read_special_ids());
    SPATE_TRY_VOID(read_rules());
    find_ends();
    return std::move(vocab_);
  }

 private:
  Error bad(std::string_view what) const { return Error::bad_file(file_.path(), what); }

  Result<void> read_model() {
    SPATE_TRY(const auto model, file_.string("tokenizer.ggml.model"));
    if (!model) return bad("tokenizer.ggml.model is missing: the file has no vocabulary");
    if (*model == "gpt2") {
      vocab_.model = VocabModel::kByteBpe;
    } else if (*model == "llama") {
      vocab_.model = VocabModel::kSentencePiece;
    } else {
      return Error::unsupported(
          fmt::format("{}: tokenizer.ggml.model {}{} is unsupported; spate reads gpt2 "
                      "(byte-level BPE) and llama (SentencePiece BPE)",
                      file_.path(), quote(*model), description(*model)));
    }
    SPATE_TRY(const auto pre, file_.string("tokenizer.ggml.pre"));
    if (pre) vocab_.pre = *pre;
    return {};
  }

  static std::string_view description(std::string_view model) {
    if (model == "bert") return " (WordPiece)";
    if (model == "t5") return " (Unigram)";
    if (model == "rwkv") return " (RWKV trie)";
    if (model == "plamo2") return " (PLaMo 2)";
    if (model == "gemma4") return " (BPE over raw UTF-8)";
    if (model == "no_vocab" || model == "none") return " (no vocabulary)";
    return "";
  }

  Result<void> read_tokens() {
    SPATE_TRY(const GgufArray* const tokens, file_.array("tokenizer.ggml.tokens"));
    if (tokens == nullptr) return bad("tokenizer.ggml.tokens is missing");
    if (tokens->element_type != GgufType::kString) return bad("tokenizer.ggml.tokens is no array of strings");
    if (tokens->size == 0) return bad("tokenizer.ggml.tokens is empty");
    if (tokens->size >= static_cast<uint64_t>(std::numeric_limits<TokenId>::max()))
      return bad(fmt::format("tokenizer.ggml.tokens has {} entries, more than token ids can count", tokens->size));
    vocab_.tokens.assign(tokens->strings.begin(), tokens->strings.end());
    return {};
  }

  // An array beside the tokens, of their number, or nullptr.
  Result<const GgufArray*> array_of_tokens(std::string_view key) {
    SPATE_TRY(const GgufArray* const array, file_.array(key));
    if (array == nullptr) return array;
    if (array->element_type == GgufType::kString || array->element_type == GgufType::kArray)
      return bad(fmt::format("{} is no array of numbers", key));
    if (array->size != vocab_.tokens.size())
      return bad(fmt::format("{} has {} entries for {} tokens", key, array->size, vocab_.tokens.size()));
    return array;
  }

  Result<void> read_kinds() {
    vocab_.kinds.assign(vocab_.tokens.size(), TokenKind::kNormal);
    SPATE_TRY(const GgufArray* const kinds, array_of_tokens("tokenizer.ggml.token_type"));
    if (kinds == nullptr) return {};
    if (!kinds->is_integer()) return bad("tokenizer.ggml.token_type is no array of integers");
    for (size_t id = 0; id < vocab_.kinds.size(); ++id) {
      const int64_t kind = kinds->integer(id);
      if (kind < 1 || kind > 6) return bad(fmt::format("tokenizer.ggml.token_type[{}] is {}, not 1 to 6", id, kind));
      vocab_.kinds[id] = static_cast<TokenKind>(kind);
      if (vocab_.kinds[id] == TokenKind::kByte && !is_byte_token(vocab_.tokens[id]))
        return bad(fmt::format("token {} is of the byte type, but named {} instead of <0x00> to <0xFF>", id,
                               quote(vocab_.tokens[id])));
    }
    return {};
  }

  static bool is_byte_token(std::string_view token) {
    const auto is_hex = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f');
    };
    return token.size() == 6 && token.starts_with("<0x") && is_hex(token[3]) && is_hex(token[4]) && token[5] == '>';
  }

  Result<void> read_scores() {
    SPATE_TRY(const GgufArray* const scores, array_of_tokens("tokenizer.ggml.scores"));
    if (scores == nullptr) return bad("tokenizer.ggml.scores is missing: a SentencePiece vocabulary merges by score");
    vocab_.scores.reserve(vocab_.tokens.size());
    for (size_t id = 0; id < vocab_.tokens.size(); ++id) {
      const auto score = static_cast<float>(scores->number(id));
      if (!std::isfinite(score)) return bad(fmt::format("tokenizer.ggml.scores[{}] is not finite", id));
      vocab_.scores.push_back(score);
    }
    return {};
  }

  Result<void> read_merges() {
    SPATE_TRY(const GgufArray* const merges, file_.array("tokenizer.ggml.merges"));
    if (merges == nullptr) return bad("tokenizer.ggml.merges is missing: a byte-level BPE vocabulary needs its merges");
    if (merges->element_type != GgufType::kString) return bad("tokenizer.ggml.merges is no array of strings");
    if (merges->size >= static_cast<uint64_t>(std::numeric_limits<int32_t>::max()))
      return bad(fmt::format("tokenizer.ggml.merges has {} entries, more than ranks can count", merges->size));
    for (uint64_t rank = 0; rank < merges->size; ++rank) {
      const std::string_view merge = merges->strings[rank];
      const size_t space = merge.find(' ');
      if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
          merge.find(' ', space + 1) != std::string_view::npos)
        return bad(
            fmt::format("tokenizer.ggml.merges[{}] is {}, not two tokens with a space between", rank, quote(merge)));
    }
    vocab_.merges.assign(merges->strings.begin(), merges->strings.end());
    return {};
  }

  // `otherwise`: the id where the key is absent.
  Result<TokenId> special_id(std::string_view key, TokenId otherwise = kNoToken) const {
    SPATE_TRY(const auto id, file_.integer(key, -1, kNoTokenInFile));
    if (!id) return otherwise;
    if (*id == -1 || *id == kNoTokenInFile) return kNoToken;
    if (*id >= vocab_.size()) return bad(fmt::format("{} is {}, but there are {} tokens", key, *id, vocab_.size()));
    return static_cast<TokenId>(*id);
  }

  // Where the file does not say, SentencePiece's own numbering: <unk> 0, <s> 1, </s> 2, if those are what they should
  // be.
  TokenId sentence_piece_default(TokenId id, TokenKind kind) const {
    const bool there = vocab_.model == VocabModel::kSentencePiece && id < vocab_.size() && vocab_.kinds[id] == kind;
    return there ? id : kNoToken;
  }

  Result<void> read_special_ids() {
    for (const auto& [key, value] : file_.metadata())
      if (key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id")) SPATE_TRY_VOID(in_range(key));
    SPATE_TRY(vocab_.bos, special_id("tokenizer.ggml.bos_token_id", sentence_piece_default(1, TokenKind::kControl)));
    SPATE_TRY(vocab_.eos, special_id("tokenizer.ggml.eos_token_id", sentence_piece_default(2, TokenKind::kControl)));
    SPATE_TRY(vocab_.unknown,
              special_id("tokenizer.ggml.unknown_token_id", sentence_piece_default(0, TokenKind::kUnknown)));
    SPATE_TRY(vocab_.pad, special_id("tokenizer.ggml.padding_token_id"));
    SPATE_TRY(vocab_.eot, special_id("tokenizer.ggml.eot_token_id"));
    SPATE_TRY(vocab_.eom, special_id("tokenizer.ggml.eom_token_id"));
    return {};
  }

  // Also ids that spate does not use: a file that is wrong there is wrong elsewhere.
  Result<void> in_range(std::string_view key) const {
    SPATE_TRY([[maybe_unused]] const TokenId id, special_id(key));
    return {};
  }

  // Absent keys: SentencePiece begins texts with BOS; byte-level BPE where the pre-tokenizer's row says so.
  Result<void> read_rules() {
    const PreTokenizer* pre = find_pre_tokenizer(vocab_.pre);
    const bool bos_by_default = vocab_.model == VocabModel::kSentencePiece ? true : pre != nullptr && pre->add_bos;
    SPATE_TRY(vocab_.add_bos, rule("tokenizer.ggml.add_bos_token", bos_by_default, vocab_.bos));
    SPATE_TRY(vocab_.add_eos, rule("tokenizer.ggml.add_eos_token", false, vocab_.eos));
    SPATE_TRY(const auto add_space_prefix, file_.boolean("tokenizer.ggml.add_space_prefix"));
    vocab_.add_space_prefix = vocab_.model == VocabModel::kSentencePiece && add_space_prefix.value_or(true);
    return {};
  }

  Result<bool> rule(std::string_view key, bool otherwise, TokenId token) const {
    SPATE_TRY(const auto value, file_.boolean(key));
    if (!value) return otherwise && token != kNoToken;
    if (*value && token == kNoToken) return bad(fmt::format("{} is true, but the file names no such token", key));
    return *value;
  }

  void find_ends() {
    std::vector<TokenId>& ends = vocab_.end_of_generation;
    for (const TokenId id : {vocab_.eos, vocab_.eot, vocab_.eom})
      if (id != kNoToken) ends.push_back(id);
    const bool harmony = std::any_of(std::begin(kHarmonyTurnEnds), std::end(kHarmonyTurnEnds),
                                     [&](std::string_view name) { return find_special(name) != kNoToken; });
    for (const std::string_view name : kEndTokens) {
      if (harmony && name == kHarmonyMessageEnd) continue;
      if (const TokenId id = find_special(name); id != kNoToken) ends.push_back(id);
    }
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  }

  // Plain text may hold "</s>" as an ordinary token: only tokens set apart from text can end a turn.
  TokenId find_special(std::string_view name) {
    if (special_by_name_.empty())
      for (TokenId id = 0; id < vocab_.size(); ++id)
        if (is_special(vocab_.kinds[id])) special_by_name_.emplace(vocab_.tokens[id], id);
    const auto found = special_by_name_.find(name);
    return found == special_by_name_.end() ? kNoToken : found->second;
  }

  const GgufFile& file_;
  Vocab vocab_;
  std::unordered_map<std::string_view, TokenId> special_by_name_;  // views into vocab_.tokens
};

}  // namespace

bool Vocab::ends_generation(TokenId id) const {
  return std::binary_search(end_of_generation.begin(), end_of_generation.end(), id);
}

Result<Vocab> Vocab::from_gguf(const GgufFile& file) {
  return VocabReader(file).read();
}

}  // namespace spate
