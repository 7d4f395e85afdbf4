// The server's endpoints, as the page uses them. Paths are relative, so that the page works below a proxy's prefix.

const KEY = "spate.key"; // in sessionStorage: it goes with the tab

// What went wrong, in words for people. status 0: no answer came.
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

// Asks the user for a key, and resolves to whether there is one now. Set by the page.
let askForKey = async () => false;
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

function headersWith(key, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  return headers;
}

async function errorOf(response) {
  const about = { status: response.status, retryAfter: response.headers.get("Retry-After") };
  try {
    const { error } = await response.json();
    return new ApiError(error.message, { ...about, code: error.code });
  } catch {
    return new ApiError(`the server answered with status ${response.status}`, about);
  }
}

async function fetchOnce(path, { body, signal }) {
  try {
    return await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: headersWith(sessionStorage.getItem(KEY), body),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server cannot be reached");
  }
}

// An answer of status 2xx; throws ApiError, or AbortError once `signal` fires. ask: false leaves the user alone where a
// key is missing.
async function request(path, { body, signal, ask = true } = {}) {
  for (;;) {
    const response = await fetchOnce(path, { body, signal });
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401 || !ask || !(await askForKey())) throw error;
  }
}

// The models of the server: [{id, max_model_len}].
export async function listModels(options) {
  const response = await request("v1/models", options);
  return (await response.json()).data;
}

export async function metricsText(options) {
  const response = await request("metrics", { ...options, ask: false });
  return response.text();
}

// How many tokens a prompt has, and how many it may have with its answer: {count, max_model_len}.
export async function countTokens(prompt, signal) {
  const response = await request("tokenize", { body: { content: prompt }, signal });
  return response.json();
}

// The data of server-sent events (WHATWG HTML, 9.2), one after the other.
async function* eventData(response) {
  let rest = "";
  let data = [];
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        if (line !== "" || data.length === 0) continue;
        yield data.join("\n");
        data = [];
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may have been aborted
  }
}

// The chunks of an answer. Throws ApiError where the stream has an error, or ends too early.
export async function* streamAnswer(path, body, signal) {
  const response = await request(path, {
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    signal,
  });
  try {
    for await (const data of eventData(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code, status: response.status });
      yield chunk;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("the connection broke");
  }
  throw new ApiError("the answer broke off");
}
