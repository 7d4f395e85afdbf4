// LangChain's models over the API.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ContextOverflowError } from "@langchain/core/errors";
import { AIMessage, HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";

import { Server } from "./server.mjs";

const question = [new SystemMessage("Be brief."), new HumanMessage("Tell me of the river.")];

let server;
before(async () => (server = await Server.start()));
after(async () => assert.equal(await server.stop(), 0));

function settings(more = {}) {
  return { model: "any", apiKey: "any", temperature: 0, maxTokens: 8, configuration: { baseURL: server.openai }, ...more };
}

test("ChatOpenAI.invoke: the message and its usage", async () => {
  const message = await new ChatOpenAI(settings()).invoke(question);
  assert.ok(message instanceof AIMessage);
  assert.ok(message.content.length > 8);
  assert.equal(message.usage_metadata.output_tokens, 8);
  assert.equal(message.response_metadata.finish_reason, "length");
});

test("ChatOpenAI.stream: the same text, in pieces, with the usage", async () => {
  const model = new ChatOpenAI(settings({ streamUsage: true }));
  let whole;
  let pieces = 0;
  for await (const chunk of await model.stream(question)) {
    whole = whole ? whole.concat(chunk) : chunk;
    if (chunk.content) ++pieces;
  }
  assert.ok(pieces > 2);
  assert.equal(whole.content, (await model.invoke(question)).content);
  assert.equal(whole.usage_metadata.output_tokens, 8);
});

test("a chain of a prompt, the model with stop strings, and a parser, in a batch", async () => {
  const model = new ChatOpenAI(settings({ stop: ["\n"] }));
  const chain = ChatPromptTemplate.fromMessages([["user", "Tell me of the {what}."]]).pipe(model).pipe(new StringOutputParser());
  const texts = await chain.batch([{ what: "river" }, { what: "sea" }, { what: "hill" }]);
  assert.equal(texts.length, 3);
  assert.ok(texts.every((text) => text.length > 0 && !text.includes("\n")));
});

test("bound tools are told to the model, and what they gave", async () => {
  const depth = tool(async () => "20 metres", {
    name: "depth",
    description: "How deep a river is",
    schema: { type: "object", properties: { river: { type: "string" } }, required: ["river"] },
  });
  const model = new ChatOpenAI(settings()).bindTools([depth]);
  const call = { name: "depth", args: { river: "Thames" }, id: "call_1" };
  const message = await model.invoke([
    new HumanMessage("How deep is the Thames?"),
    new AIMessage({ content: "", tool_calls: [call] }),
    new ToolMessage({ content: "20 metres", tool_call_id: "call_1" }),
  ]);
  assert.deepEqual(message.tool_calls, []);
  assert.ok(message.content.length > 0);
});

test("OpenAI (completions): a text, and the same streamed", async () => {
  const model = new OpenAI(settings());
  const whole = await model.invoke("The river was");
  assert.ok(whole.length > 8);
  let text = "";
  for await (const piece of await model.stream("The river was")) text += piece;
  assert.equal(text, whole);
});

test("OpenAIEmbeddings: documents in batches, and a query", async () => {
  const embeddings = new OpenAIEmbeddings(settings({ batchSize: 2 }));
  const documents = ["The river was high.", "The stream had risen.", "A dog barked."];
  const vectors = await embeddings.embedDocuments(documents);
  assert.equal(vectors.length, 3);
  const query = await embeddings.embedQuery(documents[1]);
  const likeness = vectors.map((vector) => vector.reduce((sum, value, i) => sum + value * query[i], 0));
  assert.ok(likeness[1] > 0.9999 && likeness[0] < 0.9999 && likeness[2] < 0.9999, String(likeness));
});

test("too long a prompt is LangChain's ContextOverflowError", async () => {
  await assert.rejects(new ChatOpenAI(settings()).invoke("river ".repeat(3000)), ContextOverflowError);
});

test("an abort ends the stream, and the server's work on it", async () => {
  const controller = new AbortController();
  const model = new ChatOpenAI(settings({ maxTokens: 900, modelKwargs: { ignore_eos: true } }));
  const read = async () => {
    for await (const chunk of await model.stream(question, { signal: controller.signal })) {
      if (chunk.content) controller.abort();
    }
  };
  await assert.rejects(read(), /abort/i);
  await server.idle();
  assert.equal(await server.metric('spate_finished_total{reason="cancelled"}'), 1);
});
