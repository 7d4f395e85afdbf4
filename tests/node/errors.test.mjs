// Errors as the classes that `openai` has for them, and what the client retries of its own accord.
import assert from "node:assert/strict";
import net from "node:net";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import OpenAI, {
  APIConnectionTimeoutError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from "openai";

import { Server } from "./server.mjs";

const messages = [{ role: "user", content: "Tell me of the river." }];

// A client that notes the status of every answer; `on` maps a status to what is to be done when it first comes.
function counting(server, options = {}, on = {}) {
  const statuses = [];
  const client = new OpenAI({
    baseURL: server.openai,
    apiKey: "any",
    ...options,
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      statuses.push(response.status);
      await on[response.status]?.();
      return response;
    },
  });
  return { client, statuses };
}

describe("a request that cannot be run", () => {
  let server, client, statuses;
  before(async () => {
    server = await Server.start(["--api-key", "secret", "--strict-model", "--alias", "river"]);
    ({ client, statuses } = counting(server, { apiKey: "secret" }));
  });
  after(async () => assert.equal(await server.stop(), 0));

  // The error of a request that is refused once and not tried again.
  async function refused(promise) {
    const before = statuses.length;
    const error = await promise.then(() => assert.fail("answered"), (reason) => reason);
    assert.equal(statuses.length, before + 1, "it was tried again");
    assert.ok(error.requestID.length > 0);
    return error;
  }

  test("too long a prompt is a BadRequestError, context_length_exceeded", async () => {
    const long = [{ role: "user", content: "river ".repeat(3000) }];
    for (const stream of [false, true]) {
      const error = await refused(client.chat.completions.create({ model: "river", messages: long, stream }));
      assert.ok(error instanceof BadRequestError);
      assert.equal(error.status, 400);
      assert.equal(error.code, "context_length_exceeded");
      assert.equal(error.type, "invalid_request_error");
      assert.equal(error.param, "messages");
      assert.match(error.message, /maximum context length is 1024 tokens.* at least \d{4}\./);
    }
    const asked = await refused(client.completions.create({ model: "river", prompt: "The", max_tokens: 5000 }));
    assert.equal(asked.code, "context_length_exceeded");
  });

  test("a wrong key is an AuthenticationError", async () => {
    const stranger = new OpenAI({ baseURL: server.openai, apiKey: "wrong", maxRetries: 0 });
    for (const request of [
      () => stranger.models.list(),
      () => stranger.chat.completions.create({ model: "river", messages }),
      () => stranger.embeddings.create({ model: "river", input: "The" }),
    ]) {
      await assert.rejects(request, (error) => {
        assert.ok(error instanceof AuthenticationError);
        assert.equal(error.status, 401);
        assert.equal(error.code, "invalid_api_key");
        assert.doesNotMatch(error.message, /wrong|secret/);
        return true;
      });
    }
    assert.equal((await client.models.list()).data[0].id, "river");
  });

  test("another model is a NotFoundError with --strict-model", async () => {
    const error = await refused(client.chat.completions.create({ model: "gpt-4o-mini", messages }));
    assert.ok(error instanceof NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.equal(error.param, "model");
    assert.match(error.message, /gpt-4o-mini/);
  });

  test("what a later version may do is a BadRequestError that names the parameter", async () => {
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }];
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    for (const [body, param] of [
      [{ tools, tool_choice: "required" }, "tool_choice"],
      [{ response_format: { type: "json_object" } }, "response_format"],
      [{ messages: [{ role: "user", content: [image] }] }, "messages[0].content"],
      [{ n: 1e9 }, "n"],
      [{ temperature: 3 }, "temperature"],
    ]) {
      const error = await refused(client.chat.completions.create({ model: "river", messages, ...body }));
      assert.ok(error instanceof BadRequestError, error.message);
      assert.ok(error.param.startsWith(param), `${param}: ${error.param}`);
    }
  });

  test("/v1/responses is a NotFoundError that says what to use", async () => {
    const error = await refused(client.responses.create({ model: "river", input: "Hello" }));
    assert.ok(error instanceof NotFoundError);
    assert.match(error.message, /chat\/completions/);
  });
});

describe("a full server", () => {
  let server;
  before(async () => {
    server = await Server.start(["--max-seqs", "1", "--max-queue", "1"]);
  });
  after(async () => assert.equal(await server.stop(), 0));

  // Takes the only place and the only seat in the queue; returns what frees them.
  async function fill() {
    const { client } = counting(server, { maxRetries: 0 });
    const body = { model: "any", prompt: "The river", max_tokens: 1000, ignore_eos: true, stream: true };
    const running = await client.completions.create(body);
    await running[Symbol.asyncIterator]().next(); // it has the place
    const gone = new AbortController();
    const waiting = client.completions.create(body, { signal: gone.signal }).catch((error) => error);
    while ((await server.metric("spate_num_requests_waiting")) < 1);
    return async () => {
      running.controller.abort();
      gone.abort();
      await waiting;
      await server.idle();
    };
  }

  test("is a RateLimitError with the time to wait", async () => {
    const release = await fill();
    const { client, statuses } = counting(server, { maxRetries: 0 });
    const error = await client.chat.completions.create({ model: "any", messages, max_tokens: 2 }).catch((reason) => reason);
    assert.ok(error instanceof RateLimitError);
    assert.equal(error.code, "rate_limit_exceeded");
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
    assert.deepEqual(statuses, [429]);
    await release();
  });

  test("is tried again by the client, which then is answered", async () => {
    const release = await fill();
    let freed;
    const { client, statuses } = counting(server, {}, { 429: () => (freed ??= release()) });
    const answer = await client.chat.completions.create({ model: "any", messages, max_tokens: 2 });
    assert.equal(answer.usage.completion_tokens, 2);
    assert.deepEqual(statuses, [429, 200]);
  });

  test("and the client's own time limit is a timeout, which leaves nothing behind", async () => {
    const { client } = counting(server, { maxRetries: 0, timeout: 200 });
    const body = { model: "any", prompt: "The river", max_tokens: 1000, ignore_eos: true };
    await assert.rejects(client.completions.create(body), APIConnectionTimeoutError);
    await server.idle();
  });
});

test("a server without a connection left is an InternalServerError, tried again until there is one", async () => {
  const server = await Server.start(["--max-connections", "1", "--log", "error"]);
  const { port } = new URL(server.url);
  const socket = net.connect({ port, host: "127.0.0.1" });
  await once(socket, "connect");

  const hasty = counting(server, { maxRetries: 0 });
  const error = await hasty.client.models.list().catch((reason) => reason);
  assert.ok(error instanceof InternalServerError, String(error));
  assert.equal(error.status, 503);
  assert.equal(error.code, "too_many_connections");

  const patient = counting(server, { maxRetries: 5 }, { 503: () => socket.destroy() });
  assert.equal((await patient.client.models.list()).data.length, 1);
  assert.equal(patient.statuses[0], 503);
  assert.equal(patient.statuses.at(-1), 200);
  assert.equal(await server.stop(), 0);
});
