// Completions of plain text with `openai`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";

import { Server } from "./server.mjs";

const greedy = { model: "any", prompt: "The river was", temperature: 0, max_tokens: 8 };

let server, client;
before(async () => {
  server = await Server.start();
  client = new OpenAI({ baseURL: server.openai, apiKey: "any", maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

test("a text is continued, by 16 tokens unless asked otherwise", async () => {
  const answer = await client.completions.create({ model: "any", prompt: "The river was", temperature: 0, ignore_eos: true });
  assert.match(answer.id, /^cmpl-/);
  assert.equal(answer.object, "text_completion");
  assert.equal(answer.usage.completion_tokens, 16);
  assert.equal(answer.choices[0].finish_reason, "length");
  const eight = await client.completions.create(greedy);
  assert.ok(answer.choices[0].text.startsWith(eight.choices[0].text));
});

test("a stream says the same, and its usage where asked", async () => {
  const whole = await client.completions.create(greedy);
  const stream = await client.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
  let text = "";
  let reason, usage;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "text_completion");
    text += chunk.choices[0]?.text ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].text);
  assert.equal(reason, "length");
  assert.equal(usage.completion_tokens, 8);
});

test("several prompts, as texts and as ids, with n", async () => {
  const texts = await client.completions.create({ ...greedy, prompt: ["The river was", "An old man"], n: 2 });
  assert.deepEqual(texts.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  assert.equal(texts.choices[0].text, texts.choices[1].text);
  assert.notEqual(texts.choices[0].text, texts.choices[2].text);

  const { tokens } = await client.post("/../tokenize", { body: { content: "The river was" } });
  const ids = await client.completions.create({ ...greedy, prompt: tokens });
  assert.equal(ids.choices[0].text, texts.choices[0].text);
  assert.equal(ids.usage.prompt_tokens, tokens.length);
});

test("echo and logprobs score the prompt", async () => {
  const { choices } = await client.completions.create({ ...greedy, echo: true, logprobs: 2, max_tokens: 0 });
  assert.equal(choices[0].text, "The river was");
  const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs;
  assert.equal(tokens.join(""), "The river was");
  assert.equal(token_logprobs[0], null);
  assert.equal(top_logprobs[0], null);
  for (let i = 1; i < tokens.length; ++i) {
    assert.ok(token_logprobs[i] < 0);
    assert.ok(Object.keys(top_logprobs[i]).length >= 2);
    assert.equal(text_offset[i], tokens.slice(0, i).join("").length);
  }
});

test("stop strings are never part of the text", async () => {
  const whole = (await client.completions.create({ ...greedy, max_tokens: 16 })).choices[0].text;
  const stop = whole.slice(10, 14);
  const { choices } = await client.completions.create({ ...greedy, max_tokens: 16, stop: [stop] });
  assert.equal(choices[0].text, whole.slice(0, whole.indexOf(stop)));
  assert.equal(choices[0].finish_reason, "stop");
});
