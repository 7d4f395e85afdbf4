// The web page in a real browser, against the real server. The model tells stories: what it says does not matter here.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Browser, reasonToSkip, screenshot } from "./browser.mjs";
import { Server } from "./server.mjs";

// Greedy, so that retries have something to equal.
const SHORT = { "spate.settings": JSON.stringify({ system: "", temperature: 0, max_tokens: 6 }) };
const LONG = { "spate.settings": JSON.stringify({ system: "", temperature: 0 }) };

const answers = (page) => page.locator("article.assistant");
const questions = (page) => page.locator("article.user");
const facts = (page) => answers(page).last().locator(".facts");

async function send(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

// Until the last answer is complete, or stopped.
async function ended(page) {
  await page.locator("#send").waitFor();
  await facts(page).filter({ hasText: /./ }).waitFor();
}

// Answers go on until they are stopped: in a context that takes minutes to fill, also where a thousand tokens take less
// than the second between two looks at the load, and whatever the model would rather.
const ENDLESS = ["--ctx", "65536", "--kv-tokens", "65536"];
async function withoutEnds(page) {
  await page.route(/\/v1\/chat\/completions$/, (route) =>
    route.continue({ postData: { ...route.request().postDataJSON(), ignore_eos: true } }));
}

// The bodies of what the page asks of the model from now on.
function requestsOf(page) {
  const requests = [];
  page.on("request", (request) => {
    if (/\/v1\/(chat\/)?completions$/.test(request.url()))
      requests.push({ path: new URL(request.url()).pathname, body: request.postDataJSON() });
  });
  return requests;
}

// The bundled model under a name of the key that nobody reads.
async function modelWithoutTemplate(folder) {
  const bytes = await readFile(process.env.SPATE_BUNDLED_MODEL);
  const at = bytes.indexOf("tokenizer.chat_template");
  assert.ok(at > 0, "the bundled model has a chat template");
  bytes.write("tokenizer.no_template__", at);
  const path = join(folder, "plain.gguf");
  await writeFile(path, bytes);
  return path;
}

describe("the page", { skip: reasonToSkip() }, () => {
  let server, endless, browser;
  before(async () => {
    [server, endless, browser] = await Promise.all([Server.start(), Server.start(ENDLESS), Browser.start()]);
  });
  after(async () => {
    await browser?.close();
    assert.deepEqual(await Promise.all([server?.stop(), endless?.stop()]), [0, 0]);
  });

  test("an answer streams, and the conversation survives a reload", async (t) => {
    const page = await browser.open(t, endless.url, { stored: LONG });
    await withoutEnds(page);
    // How long the answer was, each time that it changed while it was being written.
    await page.evaluate(() => {
      window.lengths = new Set();
      new MutationObserver(() => {
        const content = document.querySelector("article.written .content");
        if (content) window.lengths.add(content.textContent.length);
      }).observe(document.getElementById("messages"), { childList: true, subtree: true, characterData: true });
    });
    await send(page, "Tell me of the river.");
    await page.waitForFunction(() => window.lengths.size >= 3);
    assert.equal(await answers(page).getAttribute("aria-busy"), "true");
    await page.keyboard.press("Escape");
    await ended(page);
    await screenshot(page, "chat");
    const text = await answers(page).locator(".content").textContent();
    assert.ok(text.length > 0);
    await page.reload();
    assert.equal(await answers(page).locator(".content").textContent(), text);
    assert.equal(await questions(page).locator(".content").textContent(), "Tell me of the river.");
    await page.locator("#conversation-list").getByRole("button", { name: "Tell me of the river." }).waitFor();
  });

  test("an answer that ends says what it took", async (t) => {
    const page = await browser.open(t, server.url, { stored: SHORT });
    await send(page, "Tell me of the river.");
    await ended(page);
    assert.match(await facts(page).textContent(), /6 tokens, [\d.]+ a second, first after [\d.]+ m?s/);
    assert.equal(await page.locator("#progress").textContent(), "The answer is complete.");
    assert.equal(await answers(page).getAttribute("aria-busy"), "false");
  });

  test("Escape and the button stop an answer, and the server hears of it", async (t) => {
    const page = await browser.open(t, endless.url, { stored: LONG });
    await withoutEnds(page);
    for (const stop of [() => page.keyboard.press("Escape"), () => page.getByRole("button", { name: "Stop" }).dispatchEvent("click")]) {
      await send(page, "Once there was a mill.");
      await page.locator("article.written .content p").waitFor();
      await stop();
      await ended(page);
      assert.equal(await facts(page).textContent(), "stopped");
      await endless.idle();
    }
    assert.equal(await answers(page).count(), 2);
  });

  test("an earlier message can be put otherwise, and an answer asked for again", async (t) => {
    const page = await browser.open(t, server.url, { stored: SHORT });
    const requests = requestsOf(page);
    for (const text of ["Tell me of the river.", "And of the sea?"]) {
      await send(page, text);
      await ended(page);
    }
    await questions(page).first().getByRole("button", { name: "Edit" }).click();
    await page.getByLabel("Another wording").fill("Tell me of the hill.");
    await page.keyboard.press("Enter");
    await ended(page);
    assert.equal(await page.locator("article").count(), 2);
    assert.deepEqual(requests[2].body.messages, [{ role: "user", content: "Tell me of the hill." }]);
    const text = await answers(page).locator(".content").textContent();
    await page.getByRole("button", { name: "Retry" }).click();
    await ended(page);
    assert.equal(requests.length, 4);
    assert.deepEqual(requests[3], requests[2]);
    assert.equal(await answers(page).locator(".content").textContent(), text);
  });

  test("settings are sent, and those that cannot be are refused", async (t) => {
    const page = await browser.open(t, server.url);
    const requests = requestsOf(page);
    await page.getByRole("button", { name: "Settings" }).click();
    const values = { "Temperature": "0,5", "Top-p": "0.9", "Top-k": "40", "Min-p": "0.02", "Tokens at most": "8", "Seed": "7" };
    await page.getByLabel("System prompt").fill("Be brief.");
    for (const [label, value] of Object.entries(values)) await page.getByLabel(label).fill(value);
    await page.getByLabel("Top-p").fill("2");
    assert.equal(await page.locator("#top_p-problem").textContent(), "From 0 to 1.");
    await screenshot(page, "settings");
    await page.getByRole("button", { name: "Done" }).click();
    await send(page, "Hello");
    await ended(page);
    const { messages, temperature, top_p, top_k, min_p, max_tokens, seed, stream } = requests[0].body;
    assert.deepEqual({ temperature, top_p, top_k, min_p, max_tokens, seed, stream },
                     { temperature: 0.5, top_p: 0.9, top_k: 40, min_p: 0.02, max_tokens: 8, seed: 7, stream: true });
    assert.deepEqual(messages[0], { role: "system", content: "Be brief." });
  });

  test("conversations are renamed, exported and deleted", async (t) => {
    const page = await browser.open(t, server.url, { stored: SHORT });
    await send(page, "First");
    await ended(page);
    await page.getByRole("button", { name: "New conversation" }).click();
    assert.equal(await page.locator("article").count(), 0);
    await send(page, "Second");
    await ended(page);
    const list = page.locator("#conversation-list li .open");
    assert.deepEqual(await list.allTextContents(), ["Second", "First"]);
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("Name of the conversation").fill("Another");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Another" }).waitFor();
    const [download] = await Promise.all([
      page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click(),
    ]);
    assert.equal(download.suggestedFilename(), "Another.json");
    const exported = JSON.parse(await readFile(await download.path(), "utf8"));
    assert.deepEqual(exported.messages.map(({ role }) => role), ["user", "assistant"]);
    await page.locator("#conversation-list").getByRole("button", { name: "Delete" }).click();
    await page.locator("#delete-dialog").getByRole("button", { name: "Delete" }).click();
    await page.getByRole("heading", { name: "First" }).waitFor();
    assert.deepEqual(await list.allTextContents(), ["First"]);
  });

  test("what the server refuses is said in its words", async (t) => {
    const page = await browser.open(t, server.url, { statuses: [400] });
    await send(page, "river ".repeat(20_000));
    await answers(page).locator(".problem").filter({ hasText: "maximum context length" }).waitFor();
    await page.getByRole("button", { name: "Retry" }).waitFor();
  });

  test("what a model writes stays text", async (t) => {
    const content = [
      "# Title", "", "Some **bold** and `code` and <b>markup</b>", "", "- one", "- two", "  - inner", "",
      "```html", "<script>window.broken = 1</script>", "```", "", '<img src="/x" onerror="window.broken = 1">', "",
      "[good](https://example.com/a) [bad](javascript:window.broken=1)", "", "| a | b |", "|---|---|", "| 1 | 2 |",
    ].join("\n");
    const conversation = {
      id: "kept", title: "", created: 1, updated: 1, settings: { system: "" },
      messages: [{ role: "user", content: "<i>Hello</i>" }, { role: "assistant", content, facts: "x" }],
    };
    const page = await browser.open(t, server.url, {
      stored: { "spate.conversation.kept": JSON.stringify(conversation) },
      context: { permissions: ["clipboard-read", "clipboard-write"] },
    });
    const shown = answers(page).locator(".content");
    assert.equal(await questions(page).locator(".content").textContent(), "<i>Hello</i>");
    assert.equal(await shown.locator("img, script, b").count(), 0);
    assert.deepEqual(await shown.locator("a").evaluateAll((links) => links.map((link) => link.href)), ["https://example.com/a"]);
    assert.equal(await page.evaluate(() => window.broken), undefined);
    for (const [selector, text] of Object.entries({
      h3: "Title", strong: "bold", "p code": "code", "li li": "inner", "figcaption span": "html", td: "1",
    })) assert.equal(await shown.locator(selector).first().textContent(), text, selector);
    await shown.locator(".code").getByRole("button", { name: "Copy" }).click();
    await shown.getByRole("button", { name: "Copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "<script>window.broken = 1</script>");
    await screenshot(page, "markdown");
  });

  test("the load moves while an answer is written", async (t) => {
    const page = await browser.open(t, endless.url, { stored: LONG });
    await withoutEnds(page);
    await page.getByRole("button", { name: "Load" }).click();
    const readings = (title) => page.locator(".chart", { has: page.getByRole("heading", { name: title }) }).locator("dd");
    const reads = (title, text) => readings(title).first().filter({ hasText: text }).waitFor();
    await reads("Answers", /^0$/);  // counts of before the answer, that what comes of it is told from
    await send(page, "Tell me of the river.");
    // Beside one another: a time to the first token is shown for some seconds alone.
    const moved = ["Tokens a second", "KV cache in use", "Time to first token", "Gap between tokens"];
    await Promise.all([reads("Answers", /^1$/), ...moved.map((title) => reads(title, /[1-9]/))]);
    await screenshot(page, "load");
    await page.locator("#message").focus();
    await page.keyboard.press("Escape");
    await reads("Answers", /^0$/);
    assert.match(await page.locator(".chart path.first").first().getAttribute("d"), /^M[\d.]+ [\d.]+L/);
    await page.reload();
    await page.getByRole("complementary", { name: "Load of the server" }).waitFor();
  });

  test("quantiles between two states of a histogram", async () => {
    const source = await (await fetch(`${server.url}/page/metrics.js`)).text();
    const { parseMetrics, quantileBetween } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
    const state = (...counts) => parseMetrics(["# HELP h x", ...["0.1", "0.2", "+Inf"].map(
      (bound, i) => `h_bucket{le="${bound}"} ${counts[i]}`), `h_count ${counts[2]}`].join("\n"));
    assert.equal(quantileBetween(state(5, 5, 5), state(5, 5, 5), "h", 0.5), null);
    assert.equal(quantileBetween(state(5, 5, 5), state(5, 15, 15), "h", 0.5).toFixed(6), "0.150000");
    assert.equal(quantileBetween(state(5, 5, 5), state(7, 15, 15), "h", 0.1).toFixed(6), "0.050000");
    assert.equal(quantileBetween(state(5, 5, 5), state(5, 5, 15), "h", 0.9), 0.2);
    assert.equal(quantileBetween(state(50, 50, 50), state(0, 4, 4), "h", 0.5).toFixed(6), "0.150000");
  });

  test("a phone has one column, with the rest behind buttons", async (t) => {
    const page = await browser.open(t, server.url, {
      stored: SHORT, context: { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true },
    });
    await send(page, "Tell me of the river.");
    await ended(page);
    await screenshot(page, "phone");
    const sidebar = page.getByRole("navigation", { name: "Conversations" });
    assert.equal(await sidebar.isVisible(), false);
    await page.getByRole("button", { name: "Conversations" }).click();
    await sidebar.waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "new-conversation");
    await screenshot(page, "phone-conversations");
    await page.keyboard.press("Escape");
    await sidebar.waitFor({ state: "hidden" });
    assert.equal(await page.evaluate(() => document.activeElement.id), "toggle-sidebar");
    await page.getByRole("button", { name: "Conversations" }).tap();
    await sidebar.waitFor();
    await page.touchscreen.tap(340, 300); // beside it
    await sidebar.waitFor({ state: "hidden" });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  });

  test("dark by the system's preference, light by choice", async (t) => {
    const page = await browser.open(t, server.url, { stored: SHORT, context: { colorScheme: "dark" } });
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await paper();
    await send(page, "Tell me of the river.");
    await ended(page);
    await screenshot(page, "dark");
    await page.getByLabel("Appearance").selectOption("light");
    const light = await paper();
    assert.notEqual(light, dark);
    await page.reload();
    assert.equal(await paper(), light);
    await page.getByLabel("Appearance").selectOption("system");
    assert.equal(await paper(), dark);
  });

  test("everything can be reached from the keyboard", async (t) => {
    const page = await browser.open(t, server.url, { stored: SHORT });
    assert.equal(await page.evaluate(() => document.activeElement.id), "message");
    await page.keyboard.type("one");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("two");
    await page.keyboard.press("Enter");
    await ended(page);
    assert.equal(await questions(page).locator(".content").textContent(), "one\ntwo");
    const reached = new Set();
    for (let i = 0; i < 30; ++i) {
      await page.keyboard.press("Tab");
      reached.add(await page.evaluate(() => document.activeElement.textContent.trim().split("\n")[0] || document.activeElement.id));
    }
    for (const name of ["New conversation", "Rename", "Settings", "Load", "Copy", "Edit", "Retry", "message", "Send"])
      assert.ok(reached.has(name), `${name} among ${[...reached].join(", ")}`);
    // Nothing without a name.
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, textarea, select")].filter(
      (control) => control.textContent.trim() === "" && !control.labels?.length).map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
  });

  test("a server with keys is asked for one, and it is kept for the tab", async (t) => {
    const closed = await Server.start(["--api-key", "sesame"]);
    t.after(() => closed.stop());
    const page = await browser.open(t, closed.url, { statuses: [401], stored: SHORT });
    const dialog = page.locator("#key-dialog");
    await dialog.waitFor();
    await screenshot(page, "key");
    await page.getByLabel("API key").fill("wrong");
    await page.keyboard.press("Enter");
    await dialog.getByRole("alert").filter({ hasText: "does not accept" }).waitFor();
    await page.getByLabel("API key").fill("sesame");
    await page.keyboard.press("Enter");
    await page.locator("#model").filter({ hasText: "tokens" }).waitFor();
    await send(page, "Tell me of the river.");
    await ended(page);
    await page.reload();
    await page.locator("#model").filter({ hasText: "tokens" }).waitFor();
    assert.equal(await dialog.isVisible(), false);
    assert.equal(await page.evaluate(() => JSON.stringify({ ...localStorage }).includes("sesame")), false);
  });

  test("a model without a chat template continues the texts", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "spate-page-"));
    t.after(() => rm(folder, { recursive: true }));
    const plain = await Server.start([await modelWithoutTemplate(folder)]);
    t.after(() => plain.stop());
    const page = await browser.open(t, plain.url, { statuses: [400], stored: SHORT });
    const requests = requestsOf(page);
    for (const text of ["The river was high", "And the old man"]) {
      await send(page, text);
      await ended(page);
    }
    assert.match(await page.locator("#notice").textContent(), /no chat template.*\/v1\/completions/);
    assert.deepEqual(requests.map(({ path }) => path), ["/v1/chat/completions", "/v1/completions", "/v1/completions"]);
    assert.equal(requests[1].body.prompt, "The river was high");
    assert.match(requests[2].body.prompt, /^The river was high.+\n\nAnd the old man$/s);
    assert.match(await answers(page).last().locator(".content").textContent(), /\w/);
  });
});
