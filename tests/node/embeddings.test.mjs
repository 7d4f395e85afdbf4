// Embeddings with `openai`, which asks for base64 when its caller names no encoding.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI from "openai";

import { Server } from "./server.mjs";

const river = "The river was high.";
const stream = "The stream had risen.";

let server, client;
before(async () => {
  server = await Server.start();
  client = new OpenAI({ baseURL: server.openai, apiKey: "any", maxRetries: 0 });
});
after(async () => assert.equal(await server.stop(), 0));

function dot(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

test("the client's base64 and floats are the same vector, of length 1", async () => {
  const silent = await client.embeddings.create({ model: "any", input: river });
  assert.equal(silent.object, "list");
  assert.ok(silent.usage.prompt_tokens > 3);
  assert.equal(silent.usage.total_tokens, silent.usage.prompt_tokens);
  const decoded = silent.data[0].embedding;
  assert.ok(Array.isArray(decoded));
  assert.ok(Math.abs(dot(decoded, decoded) - 1) < 1e-5);

  const asked = await client.embeddings.create({ model: "any", input: river, encoding_format: "float" });
  const floats = asked.data[0].embedding;
  assert.equal(floats.length, decoded.length);
  floats.forEach((value, i) => assert.ok(Math.abs(value - decoded[i]) < 1e-7, `${i}: ${value}, ${decoded[i]}`));
});

test("base64 asked for by name stays base64 of little-endian float32", async () => {
  const { data } = await client.embeddings.create({ model: "any", input: river, encoding_format: "base64" });
  assert.equal(typeof data[0].embedding, "string");
  const bytes = Buffer.from(data[0].embedding, "base64");
  let squares = 0;
  for (let at = 0; at < bytes.length; at += 4) squares += bytes.readFloatLE(at) ** 2;
  assert.ok(Math.abs(squares - 1) < 1e-5);
});

test("a batch gives each text's own vector, in order", async () => {
  const batch = await client.embeddings.create({ model: "any", input: [river, stream, river] });
  assert.deepEqual(batch.data.map((entry) => entry.index), [0, 1, 2]);
  const [first, second, third] = batch.data.map((entry) => entry.embedding);
  const alone = (await client.embeddings.create({ model: "any", input: stream })).data[0].embedding;
  assert.ok(dot(second, alone) > 0.9999);
  assert.ok(dot(first, third) > 0.9999);
  assert.ok(dot(first, second) < 0.9999);
});

test("dimensions other than the model's are refused", async () => {
  const { data } = await client.embeddings.create({ model: "any", input: river });
  const own = data[0].embedding.length;
  assert.equal((await client.embeddings.create({ model: "any", input: river, dimensions: own })).data.length, 1);
  await assert.rejects(client.embeddings.create({ model: "any", input: river, dimensions: 8 }), {
    name: "Error",
    status: 400,
    param: "dimensions",
  });
});
