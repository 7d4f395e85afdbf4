// Chat completions with `openai`.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";

import { Server } from "./server.mjs";

const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Tell me of the river." },
];
const greedy = { model: "gpt-4o-mini", messages, temperature: 0, max_tokens: 12 };

let server, client;
before(async () => {
  server = await Server.start();
  client = new OpenAI({ baseURL: server.openai, apiKey: "any", maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("a conversation is answered, with its usage", async () => {
  const { data, response, request_id } = await client.chat.completions.create(greedy).withResponse();
  assert.equal(response.status, 200);
  assert.match(request_id, /^[A-Za-z0-9._-]+$/);
  assert.match(data.id, /^chatcmpl-/);
  assert.equal(data.object, "chat.completion");
  assert.equal(data.model, "classics-33m-Q4_K_M");
  assert.ok(Math.abs(data.created - Date.now() / 1000) < 600);
  const [choice] = data.choices;
  assert.equal(choice.message.role, "assistant");
  assert.equal(choice.message.refusal, null);
  assert.equal(choice.finish_reason, "length");
  assert.ok(choice.message.content.length > 12, choice.message.content);
  assert.equal(data.usage.completion_tokens, 12);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + 12);
});

test("a stream says the same, first the role and last the reason", async () => {
  const whole = await client.chat.completions.create(greedy);
  const chunks = await collect(await client.chat.completions.create({ ...greedy, stream: true }));
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.ok(chunks.every((chunk) => chunk.object === "chat.completion.chunk" && chunk.choices.length === 1));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.ok(chunks.slice(1).every((chunk) => chunk.choices[0].delta.role === undefined));
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  const reasons = chunks.map((chunk) => chunk.choices[0].finish_reason);
  assert.equal(reasons.pop(), "length");
  assert.ok(reasons.length > 4 && reasons.every((reason) => reason === null), JSON.stringify(reasons));
});

test("a stream's usage comes last, without choices, and only where asked", async () => {
  const asked = { ...greedy, stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await client.chat.completions.create(asked));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, 12);
  assert.ok(last.usage.prompt_tokens_details.cached_tokens >= 0);
  assert.ok(chunks.every((chunk) => chunk.usage === null || chunk.usage === undefined));
  const silent = await collect(await client.chat.completions.create({ ...greedy, stream: true }));
  assert.ok(silent.every((chunk) => !chunk.usage));
});

test("the client's stream helper puts the answer together, log-probabilities and all", async () => {
  const events = [];
  const stream = client.chat.completions
    .stream({ ...greedy, logprobs: true, top_logprobs: 2, stream_options: { include_usage: true } })
    .on("content", (delta) => events.push(delta));
  const answer = await stream.finalChatCompletion();
  assert.equal(events.join(""), answer.choices[0].message.content);
  assert.equal(answer.choices[0].logprobs.content.length, 12);
  assert.equal(answer.usage.completion_tokens, 12);
});

test("logprobs: each token with its bytes and the likeliest beside it", async () => {
  const { choices } = await client.chat.completions.create({ ...greedy, logprobs: true, top_logprobs: 3 });
  const { content, refusal } = choices[0].logprobs;
  assert.equal(refusal, null);
  assert.equal(content.length, 12);
  for (const token of content) {
    assert.ok(token.logprob <= 0);
    assert.equal(Buffer.from(token.bytes).toString(), token.token);
    assert.equal(token.top_logprobs.length, 3);
    // Greedy: the token is the likeliest.
    assert.equal(token.top_logprobs[0].token, token.token);
    assert.ok(token.top_logprobs[1].logprob >= token.top_logprobs[2].logprob);
  }
  assert.equal(content.map((token) => token.token).join(""), choices[0].message.content);
  const silent = await client.chat.completions.create(greedy);
  assert.equal(silent.choices[0].logprobs, null);
});

test("n: several answers that share the prompt, each its own", async () => {
  const body = { ...greedy, n: 3, temperature: 1, seed: 7 };
  const { choices, usage } = await client.chat.completions.create(body);
  assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
  const texts = choices.map((choice) => choice.message.content);
  assert.equal(new Set(texts).size, 3, JSON.stringify(texts));
  assert.equal(usage.completion_tokens, 36);

  const streamed = ["", "", ""];
  for (const chunk of await collect(await client.chat.completions.create({ ...body, stream: true }))) {
    for (const { index, delta } of chunk.choices) streamed[index] += delta.content ?? "";
  }
  assert.deepEqual(streamed, texts);
});

test("stop: ends the answer before the text, streaming or not", async () => {
  const whole = (await client.chat.completions.create(greedy)).choices[0].message.content;
  const stop = whole.slice(9, 13); // across the borders of tokens
  const expected = whole.slice(0, whole.indexOf(stop));
  for (const given of [stop, ["not in it", stop]]) {
    const { choices } = await client.chat.completions.create({ ...greedy, stop: given });
    assert.equal(choices[0].message.content, expected);
    assert.equal(choices[0].finish_reason, "stop");
  }
  const chunks = await collect(await client.chat.completions.create({ ...greedy, stop, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), expected);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

test("max_completion_tokens, seed, penalties, logit_bias and content in parts are taken", async () => {
  const body = {
    model: "any",
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: "Tell me " }, { type: "text", text: "of the river." }] },
      { role: "assistant", content: "It rose." },
      { role: "user", content: "And then?", name: "reader" },
    ],
    max_completion_tokens: 6,
    seed: 3,
    top_p: 0.9,
    presence_penalty: 0.5,
    frequency_penalty: 0.5,
    logit_bias: { 11: -100 },
    response_format: { type: "text" },
    user: "somebody",
    store: false,
    metadata: { purpose: "test" },
    service_tier: "auto",
  };
  const first = await client.chat.completions.create(body);
  const second = await client.chat.completions.create(body);
  assert.equal(first.usage.completion_tokens, 6);
  assert.equal(first.choices[0].message.content, second.choices[0].message.content);
});

test("tools with tool_choice auto are taken, and so is what came of them", async () => {
  const tools = [
    {
      type: "function",
      function: {
        name: "depth",
        description: "How deep a river is",
        parameters: { type: "object", properties: { river: { type: "string" } }, required: ["river"] },
      },
    },
  ];
  const call = { id: "call_1", type: "function", function: { name: "depth", arguments: '{"river": "Thames"}' } };
  const conversation = [
    { role: "user", content: "How deep is the Thames?" },
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "call_1", content: "20 metres" },
  ];
  for (const tool_choice of ["auto", "none"]) {
    const body = { ...greedy, messages: conversation, tools, tool_choice, parallel_tool_calls: true };
    const { choices } = await client.chat.completions.create(body);
    assert.equal(typeof choices[0].message.content, "string");
    assert.equal(choices[0].message.tool_calls, undefined);
  }
});

test("runTools goes through when the model calls none", async () => {
  const runner = client.chat.completions.runTools({
    ...greedy,
    max_tokens: 200,
    stop: ",", // the helper takes no answer that ended by its length
    tools: [
      {
        type: "function",
        function: { name: "depth", parse: JSON.parse, function: () => "20", parameters: { type: "object", properties: {} } },
      },
    ],
  });
  assert.ok((await runner.finalContent()).length > 0);
});
