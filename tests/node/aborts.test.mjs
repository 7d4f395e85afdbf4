// Clients that go away with `openai`'s means: nothing of them stays behind.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import OpenAI, { APIUserAbortError } from "openai";

import { Server } from "./server.mjs";

// Would take minutes.
const body = { model: "any", prompt: "The river", max_tokens: 1000, ignore_eos: true };

let server, client, cancelled;
before(async () => {
  server = await Server.start(["--max-seqs", "2"]);
  client = new OpenAI({ baseURL: server.openai, apiKey: "any", maxRetries: 0 });
});
beforeEach(async () => (cancelled = await server.metric('spate_finished_total{reason="cancelled"}')));
afterEach(async () => {
  await server.idle();
  assert.equal(await server.metric('spate_kv_pages{state="used"}'), 0);
  assert.equal(await server.metric('spate_finished_total{reason="length"}'), 0);
});
after(async () => assert.equal(await server.stop(), 0));

async function assertCancelled(n) {
  await server.idle();
  assert.equal(await server.metric('spate_finished_total{reason="cancelled"}'), cancelled + n);
}

test("an AbortController in mid-stream", async () => {
  const controller = new AbortController();
  const stream = await client.completions.create({ ...body, stream: true }, { signal: controller.signal });
  let n = 0;
  for await (const chunk of stream) {
    assert.equal(chunk.choices.length, 1);
    if (++n === 3) controller.abort();
  }
  assert.ok(n >= 3 && n < 1000);
  await assertCancelled(1);
});

test("leaving the loop, on a chat with several answers", async () => {
  const messages = [{ role: "user", content: "Tell me of the river." }];
  const stream = await client.chat.completions.create({
    model: "any",
    messages,
    n: 2,
    max_tokens: 900,
    ignore_eos: true,
    stream: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  await assertCancelled(2);
});

test("an answer that is not streamed, while it is written", async () => {
  const controller = new AbortController();
  const answer = client.completions.create(body, { signal: controller.signal });
  const rejected = assert.rejects(answer, APIUserAbortError);
  while ((await server.metric("spate_num_requests_running")) < 1);
  controller.abort();
  await rejected;
  await assertCancelled(1);
});

test("requests in the queue, and those that run go on", async () => {
  const streams = await Promise.all([1, 2].map(() => client.completions.create({ ...body, stream: true })));
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  await Promise.all(iterators.map((iterator) => iterator.next()));

  const controller = new AbortController();
  const waiting = [1, 2, 3].map(() => client.completions.create({ ...body, stream: true }, { signal: controller.signal }));
  const rejected = Promise.all(waiting.map((request) => assert.rejects(request, APIUserAbortError)));
  while ((await server.metric("spate_num_requests_waiting")) < 3);
  controller.abort();
  await rejected;
  while ((await server.metric("spate_num_requests_waiting")) > 0);
  for (const iterator of iterators) {
    for (let i = 0; i < 3; ++i) assert.equal((await iterator.next()).done, false);
  }
  for (const stream of streams) stream.controller.abort();
  await assertCancelled(5);
});
