// The messages of a conversation on the page, and what can be done with each.
import { duration } from "./load.js";
import { copyText, showMarkdown } from "./markdown.js";

const NEAR_END_PX = 80;

const AUTHORS = { user: "You", assistant: "Answer" };

const cloneOf = (template) => document.getElementById(template).content.firstElementChild.cloneNode(true);

// What is worth knowing of an answer that has ended, for people: to be kept with its message.
export function factsOf({ finishReason, usage, timings }) {
  const facts = [];
  if (finishReason === "length") facts.push("cut off at its limit");
  if (usage) facts.push(`${usage.completion_tokens} tokens`);
  if (timings?.decode_tokens_per_second > 0) facts.push(`${timings.decode_tokens_per_second.toFixed(1)} a second`);
  if (timings) facts.push(`first after ${duration(timings.queue_seconds + timings.prefill_seconds)}`);
  return facts.join(", ");
}

export class ChatView {
  // onRetry(): the last answer again. onEdit(index, text): another wording of a message.
  constructor({ onRetry, onEdit }) {
    this.onRetry = onRetry;
    this.onEdit = onEdit;
    this.log = document.getElementById("log");
    this.place = document.getElementById("messages");
    this.empty = document.getElementById("empty");
    this.frame = null; // an update that waits for the next frame
    this.follows = true;
    this.log.addEventListener("scroll", () => {
      this.follows = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END_PX;
    });
  }

  // All of `messages`; the last of them is being written if `running`.
  show(messages, running) {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    this.empty.hidden = messages.length > 0;
    this.place.replaceChildren(...messages.map((message, i) => this.build(message, i, i === messages.length - 1, running)));
    this.follows = true;
    this.scroll();
  }

  // The last message has grown. Drawn with the next frame, however many pieces come before.
  update(message) {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.fill(this.place.lastElementChild, message);
      this.scroll();
    });
  }

  scroll() {
    if (this.follows) this.log.scrollTop = this.log.scrollHeight;
  }

  build(message, index, isLast, running) {
    const article = cloneOf("message-template");
    const isAnswer = message.role === "assistant";
    const isWritten = isLast && running && isAnswer;
    article.classList.add(message.role);
    article.classList.toggle("written", isWritten);
    // Read aloud once it is complete, rather than piece by piece.
    article.setAttribute("aria-busy", String(isWritten));
    article.querySelector("h2").textContent = AUTHORS[message.role] ?? message.role;
    this.fill(article, message);

    const footer = article.querySelector("footer");
    footer.hidden = isWritten;
    footer.querySelector(".facts").textContent = message.facts ?? "";
    footer.querySelector(".copy").addEventListener("click", (event) => this.copy(event.target, message));
    const edit = footer.querySelector(".edit");
    edit.hidden = isAnswer || running;
    edit.addEventListener("click", () => this.edit(article, message, index));
    const retry = footer.querySelector(".retry");
    retry.hidden = !isAnswer || !isLast || running;
    retry.addEventListener("click", () => this.onRetry());
    return article;
  }

  fill(article, message) {
    const content = article.querySelector(".content");
    if (message.role === "assistant") showMarkdown(content, message.content);
    else content.textContent = message.content;
    const problem = article.querySelector(".problem");
    problem.hidden = message.error === undefined;
    problem.textContent = message.error ?? "";
  }

  async copy(button, message) {
    button.textContent = (await copyText(message.content)) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  edit(article, message, index) {
    const form = cloneOf("edit-template");
    const field = form.querySelector("textarea");
    const content = article.querySelector(".content");
    const footer = article.querySelector("footer");
    const cancel = () => {
      form.replaceWith(content);
      footer.hidden = false;
      footer.querySelector(".edit").focus();
    };
    field.value = message.content;
    form.querySelector(".cancel").addEventListener("click", cancel);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() !== "") this.onEdit(index, field.value);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        cancel();
      }
      sendOnEnter(event, form);
    });
    footer.hidden = true;
    content.replaceWith(form);
    field.focus();
  }
}

// Enter sends, unless it ends the composition of a character or comes with Shift.
export function sendOnEnter(event, form) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName !== "TEXTAREA") return;
  event.preventDefault();
  form.requestSubmit();
}
