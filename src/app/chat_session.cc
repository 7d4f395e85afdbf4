#include "app/chat_session.h"

#include <algorithm>
#include <utility>

#include "app/local_time.h"
#include "base/utf8.h"

namespace spate::app {

namespace {

// An answer that the window has less room for than this share of it is not begun, unless it was asked to be shorter.
constexpr int kAnswerShare = 8;

bool is_user(const chat::Message& message) {
  return message.role == "user";
}

void drop_turns(std::vector<chat::Message>& messages, int n) {
  const auto first = std::find_if(messages.begin(), messages.end(), is_user);
  auto end = first;
  for (int i = 0; i < n && end != messages.end(); ++i) end = std::find_if(end + 1, messages.end(), is_user);
  messages.erase(first, end);
}

}  // namespace

ChatSession::ChatSession(Engine& engine, const Tokenizer& tokenizer, chat::ChatTemplate chat_template,
                         ChatSettings settings)
    : engine_(engine),
      tokenizer_(tokenizer),
      template_(std::move(chat_template)),
      settings_(std::move(settings)),
      names_(chat::TemplateNames::of(tokenizer.vocab(), local_time())),
      encoder_(tokenizer, template_, settings_.trust_messages),
      turn_end_(chat::find_turn_end(template_, encoder_, names_)),
      context_(encoder_) {}

// The clock stays where it was when the conversation began: another minute in the system message would change every
// token behind it.
Result<chat::Rendered> ChatSession::render(const chat::Conversation& conversation) const {
  return template_.render(conversation, names_);
}

chat::Conversation ChatSession::with_message(const std::string& message) const {
  chat::Conversation conversation = conversation_;
  conversation.messages.push_back({.role = "user", .content = sanitize_utf8(message)});
  conversation.add_generation_prompt = true;
  return conversation;
}

bool ChatSession::has_room(int n_prompt) const {
  const int n_useful = std::max(1, window() / kAnswerShare);
  return n_prompt + std::min(settings_.max_tokens.value_or(n_useful), n_useful) <= window();
}

Result<ChatSession::Fit> ChatSession::fit(const std::string& message) const {
  const chat::Conversation whole = with_message(message);
  SPATE_TRY(const chat::Rendered rendered, render(whole));
  Fit fit{.n_prompt = static_cast<int>(context_.encode(rendered).size())};
  fit.fits = has_room(fit.n_prompt);
  if (fit.fits) return fit;
  const auto fits_without = [&](int n) {
    chat::Conversation shorter = whole;
    drop_turns(shorter.messages, n);
    const Result<chat::Rendered> text = render(shorter);
    return text.ok() && has_room(static_cast<int>(encoder_.encode(*text).size()));
  };
  // The fewer turns, the shorter: so the least number is found by halving.
  int too_few = 0, enough = n_turns();
  if (enough == 0 || !fits_without(enough)) return fit;
  while (enough - too_few > 1) {
    const int middle = (too_few + enough) / 2;
    (fits_without(middle) ? enough : too_few) = middle;
  }
  fit.n_drop = enough;
  return fit;
}

Result<ChatSession::Answer> ChatSession::answer(const std::string& message,
                                                const std::function<void(std::string_view)>& on_text,
                                                const std::function<bool()>& cancelled) {
  chat::Conversation asked = with_message(message);
  SPATE_TRY(const chat::Rendered rendered, render(asked));
  std::vector<TokenId> prompt = context_.encode(rendered);
  std::vector<std::string> stop_strings = settings_.stop_strings;
  stop_strings.insert(stop_strings.end(), turn_end_.strings.begin(), turn_end_.strings.end());
  const uint64_t n_run_before = engine_.scheduler().counts().n_prefill_tokens;
  Request request{.prompt = prompt,
                  .max_tokens = settings_.max_tokens,
                  .sampling = settings_.sampling,
                  .logit_bias = settings_.logit_bias,
                  .stop_strings = std::move(stop_strings),
                  .stop_tokens = turn_end_.tokens};
  SPATE_TRY(Generation generation, generate(engine_, std::move(request), on_text, cancelled));
  const int n_prompt = static_cast<int>(prompt.size()), n_drawn = static_cast<int>(generation.tokens.size());
  Answer answer{.generation = {},
                .n_prompt = n_prompt,
                .n_prompt_run = static_cast<int>(engine_.scheduler().counts().n_prefill_tokens - n_run_before),
                .window_full = generation.finish.reason == FinishReason::kLength && n_prompt + n_drawn >= window()};
  if (generation.finish.reason != FinishReason::kCancelled || !generation.text.empty()) {
    asked.messages.push_back({.role = "assistant", .content = generation.text});
    conversation_ = std::move(asked);
    n_in_window_ = n_prompt + n_drawn;
    note_answer(rendered, std::move(prompt), generation);
  }
  answer.generation = std::move(generation);
  return answer;
}

// Only where the tokens are the text: a stop string or a character cut short leaves less text than was drawn.
void ChatSession::note_answer(const chat::Rendered& rendered, std::vector<TokenId> prompt,
                              const Generation& generation) {
  std::vector<TokenId> drawn;
  std::string text;
  for (const GeneratedToken& token : generation.tokens) {
    drawn.push_back(token.token);
    text += tokenizer_.token_bytes(token.token);
  }
  if (generation.finish.end_token) drawn.pop_back();
  context_.note_turn(rendered, std::move(prompt), drawn, text == generation.text ? text : std::string());
}

int ChatSession::n_turns() const {
  return static_cast<int>(std::count_if(conversation_.messages.begin(), conversation_.messages.end(), is_user));
}

void ChatSession::drop_oldest(int n) {
  drop_turns(conversation_.messages, n);
  chat::Conversation rest = conversation_;
  rest.add_generation_prompt = false;
  const Result<chat::Rendered> rendered = render(rest);
  n_in_window_ = rendered ? static_cast<int>(encoder_.encode(*rendered).size()) : 0;
}

void ChatSession::reset() {
  const std::string text = system();
  conversation_ = {};
  n_in_window_ = 0;
  set_system(text);
}

void ChatSession::set_system(const std::string& text) {
  auto& messages = conversation_.messages;
  if (!messages.empty() && messages.front().role == "system") messages.erase(messages.begin());
  if (!text.empty()) messages.insert(messages.begin(), {.role = "system", .content = sanitize_utf8(text)});
}

std::string ChatSession::system() const {
  const auto& messages = conversation_.messages;
  return !messages.empty() && messages.front().role == "system" ? messages.front().content_text() : std::string();
}

}  // namespace spate::app
