// A headless Chromium, and pages in it that are watched: what a browser complains of fails the test.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
// Chromium's own line for every answer that is not 2xx; a test that asks for one says so.
const FAILED_REQUEST = /^Failed to load resource: the server responded with a status of (\d+)/;

function chromiumPath() {
  const folders = (process.env.PATH ?? "").split(":");
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find((path) => existsSync(path));
}

// Why there is nothing to test with; undefined where there is a Chromium. Said in the shape of GoogleTest's skips, which
// ./check lists; with CI=true it is an error.
export function reasonToSkip() {
  if (chromiumPath() !== undefined) return undefined;
  const reason = "no Chromium to show the page in (scripts/install-packages clients)";
  if (process.env.CI === "true") throw new Error(`${reason}, but with CI=true nothing may be skipped`);
  console.log(`tests/node/page: Skipped\n${reason}\n[  SKIPPED ] clients.Page (0 ms)`);
  return reason;
}

export class Browser {
  static async start() {
    // Where tests run as root, or in a container, there is no sandbox to be had; the pages are our own.
    return new Browser(await chromium.launch({
      executablePath: chromiumPath(),
      chromiumSandbox: false,
      args: ["--disable-gpu", "--disable-dev-shm-usage"],
    }));
  }

  constructor(browser) {
    this.browser = browser;
  }

  close() {
    return this.browser.close();
  }

  // A page with storage of its own, closed and judged when test `t` ends. statuses: of answers that the test provokes;
  // stored: what localStorage has before the page is loaded; context: playwright's options.
  async open(t, url, { statuses = [], stored = {}, context: options = {} } = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    context.setDefaultTimeout(60_000);
    const complaints = [];
    const page = await context.newPage();
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      const status = Number(FAILED_REQUEST.exec(message.text())?.[1]);
      if (!statuses.includes(status)) complaints.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => complaints.push(`exception: ${error.stack}`));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== url && !request.url().startsWith("blob:"))
        complaints.push(`request to elsewhere: ${request.url()}`);
    });
    await context.addInitScript((entries) => {
      for (const [key, value] of Object.entries(entries)) if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
    }, stored);
    t.after(async () => {
      await context.close();
      assert.deepEqual(complaints, []);
    });
    await page.goto(url);
    return page;
  }
}

// Keeps what the page looks like among the tests' artefacts.
export function screenshot(page, name) {
  return page.screenshot({ path: join(process.env.SPATE_ARTEFACTS, `page-${name}.png`) });
}
