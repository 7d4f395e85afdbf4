// What `openai` makes of the list of models.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI, { NotFoundError } from "openai";

import { Server } from "./server.mjs";

let server, client;
before(async () => {
  server = await Server.start(["--alias", "river", "--alias", "stream"]);
  client = new OpenAI({ baseURL: server.openai, apiKey: "any" });
});
after(async () => assert.equal(await server.stop(), 0));

test("models.list gives every name of the model", async () => {
  const names = [];
  for await (const model of client.models.list()) {
    assert.equal(model.object, "model");
    assert.ok(Number.isInteger(model.created));
    names.push(model.id);
  }
  assert.deepEqual(names, ["river", "stream", "classics-33m-Q4_K_M"]);
});

test("models.retrieve gives one of them, and no other", async () => {
  assert.equal((await client.models.retrieve("stream")).id, "stream");
  await assert.rejects(client.models.retrieve("brook"), (error) => {
    assert.ok(error instanceof NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});
