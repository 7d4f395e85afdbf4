// One answer: what is sent for it, and what comes.
import { countTokens, streamAnswer } from "./api.js";
import { samplingOf } from "./settings.js";

// Without a chat template nothing says where an answer ends: so long it gets, if the user names no number.
const PLAIN_TOKENS = 512;

// Whether the model takes messages: true until the server says otherwise.
let takesMessages = true;

// Those of the same author, one behind the other because an answer failed, become one: templates want them to alternate.
function chatMessages(system, messages) {
  const sent = system.trim() === "" ? [] : [{ role: "system", content: system }];
  for (const { role, content } of messages) {
    if (content === "") continue;
    if (sent.at(-1)?.role === role) sent.at(-1).content += `\n\n${content}`;
    else sent.push({ role, content });
  }
  return sent;
}

// The texts as they stand: an answer goes on from where its question ended.
function plainPrompt(system, messages) {
  let prompt = system.trim() === "" ? "" : `${system}\n\n`;
  for (const { role, content } of messages) {
    if (role === "user" && prompt !== "" && !prompt.endsWith("\n\n")) prompt += "\n\n";
    prompt += content;
  }
  return prompt;
}

// With no room left, nothing is asked for, and the server's own message says so.
async function roomFor(prompt, signal) {
  const { count, max_model_len: limit } = await countTokens(prompt, signal);
  return count < limit ? Math.min(PLAIN_TOKENS, limit - count) : undefined;
}

async function stream(path, body, textOf, signal, onText) {
  const end = { finishReason: null, usage: null, timings: null };
  for await (const chunk of streamAnswer(path, body, signal)) {
    end.usage = chunk.usage ?? end.usage;
    end.timings = chunk.timings ?? end.timings;
    const choice = chunk.choices?.[0];
    if (choice === undefined) continue;
    end.finishReason = choice.finish_reason ?? end.finishReason;
    end.timings = choice.timings ?? end.timings;
    const text = textOf(choice);
    if (text) onText(text);
  }
  return end;
}

// Answers the last of `messages`. onText is called with each piece, onPlain before the first where the model takes no
// messages. Resolves to {finishReason, usage, timings}; rejects with ApiError, or AbortError once `signal` fires.
export async function answer({ model, messages, settings, signal, onText, onPlain }) {
  const sampling = { model, ...samplingOf(settings) };
  const system = settings.system ?? "";
  if (takesMessages) {
    try {
      const body = { ...sampling, messages: chatMessages(system, messages) };
      return await stream("v1/chat/completions", body, (choice) => choice.delta?.content, signal, onText);
    } catch (error) {
      if (error.code !== "no_chat_template") throw error;
      takesMessages = false;
    }
  }
  onPlain();
  const prompt = plainPrompt(system, messages);
  const body = { ...sampling, prompt, max_tokens: sampling.max_tokens ?? (await roomFor(prompt, signal)) };
  return stream("v1/completions", body, (choice) => choice.text, signal, onText);
}
