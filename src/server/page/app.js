// The page: what is shown, and what happens when something is pressed.
import { listModels, onKeyNeeded } from "./api.js";
import { ChatView, factsOf, sendOnEnter } from "./chat.js";
import {
  allConversations, deleteConversation, exportConversation, loadConversation, newConversation, onOtherTabs,
  saveConversation, titleOf,
} from "./conversations.js";
import { askForKey, askForName, askToDelete } from "./dialogs.js";
import { answer } from "./generation.js";
import { LoadView } from "./load.js";
import { SettingsForm, lastSettings } from "./settings.js";

const CURRENT = "spate.current"; // in sessionStorage: each tab has its own
const THEME = "spate.theme";
const LOAD_SHOWN = "spate.load";
const SAVE_EVERY_MS = 1000; // while an answer comes
const RETRY_MS = 1500; // to reach a server that is loading

const byId = (id) => document.getElementById(id);
const composer = byId("composer");
const field = byId("message");

const runs = new Map(); // conversations that are being answered, by id: {conversation, controller}
let model; // undefined until the server has told
let current = null; // the conversation that is shown

const view = new ChatView({ onRetry: retry, onEdit: edit });
const loadView = new LoadView(byId("charts"), byId("load-status"));
const settings = new SettingsForm(byId("settings"), () => current.settings, () => {
  if (current.messages.length > 0) save(current);
});

// --- notices

function notice(text) {
  byId("notice").textContent = text;
}

function save(conversation) {
  try {
    saveConversation(conversation);
  } catch (error) {
    notice(error.message);
  }
}

// --- conversations

// Empty where the text may begin: the title is that of the first message until another is given.
function showConversation() {
  const run = runs.get(current.id);
  byId("title").textContent = titleOf(current);
  view.show(current.messages, run !== undefined);
  byId("send").hidden = run !== undefined;
  byId("stop").hidden = run === undefined;
  showList();
}

function showList() {
  byId("conversation-list").replaceChildren(...allConversations().map(listEntry));
}

function listEntry(conversation) {
  const entry = byId("conversation").content.firstElementChild.cloneNode(true);
  const open = entry.querySelector(".open");
  const isCurrent = conversation.id === current.id;
  open.textContent = titleOf(conversation);
  if (isCurrent) open.setAttribute("aria-current", "true");
  open.addEventListener("click", () => {
    openConversation(conversation.id);
    closeSidebar();
    field.focus();
  });
  entry.querySelector(".actions").hidden = !isCurrent;
  entry.querySelector(".rename").addEventListener("click", () => rename());
  entry.querySelector(".export").addEventListener("click", () => exportConversation(current));
  entry.querySelector(".delete").addEventListener("click", () => remove());
  return entry;
}

function openConversation(id) {
  current = runs.get(id)?.conversation ?? loadConversation(id) ?? newConversation(lastSettings());
  sessionStorage.setItem(CURRENT, current.id);
  showConversation();
}

function startConversation() {
  openConversation("");
  closeSidebar();
  field.focus();
}

async function rename() {
  const conversation = current;
  const name = await askForName(titleOf(conversation));
  if (name === null) return;
  conversation.title = name;
  save(conversation);
  showConversation();
}

async function remove() {
  const { id } = current;
  if (!(await askToDelete(titleOf(current)))) return;
  const run = runs.get(id);
  if (run) {
    run.isDropped = true;
    run.controller.abort();
    runs.delete(id);
  }
  deleteConversation(id);
  openConversation(allConversations()[0]?.id ?? "");
  field.focus();
}

// --- answers

async function run(conversation) {
  const messages = [...conversation.messages];
  const message = { role: "assistant", content: "", facts: "broken off" }; // until it ends
  const controller = new AbortController();
  const run = { conversation, controller };
  let savedAt = performance.now();
  conversation.messages.push(message);
  conversation.updated = Date.now();
  runs.set(conversation.id, run);
  save(conversation);
  if (conversation === current) showConversation();
  byId("progress").textContent = "An answer is being written.";

  try {
    const end = await answer({
      model,
      messages,
      settings: conversation.settings,
      signal: controller.signal,
      onPlain: () => notice("This model has no chat template: the texts are continued as they stand, by /v1/completions."),
      onText: (text) => {
        message.content += text;
        if (conversation === current) view.update(message);
        if (performance.now() - savedAt < SAVE_EVERY_MS || run.isDropped) return;
        savedAt = performance.now();
        save(conversation);
      },
    });
    message.facts = factsOf(end);
  } catch (error) {
    if (controller.signal.aborted) message.facts = "stopped";
    else message.error = problemOf(error);
    if (message.error) delete message.facts;
  }
  finish(run, message);
}

function problemOf(error) {
  const again = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  return `${error.message.charAt(0).toUpperCase()}${error.message.slice(1).replace(/\.$/, "")}.${again}`;
}

function finish(run, message) {
  if (run.isDropped) return;
  const { conversation } = run;
  const wasOnStop = document.activeElement === byId("stop");
  runs.delete(conversation.id);
  conversation.updated = Date.now();
  save(conversation);
  if (conversation !== current) return showList();
  byId("progress").textContent = message.error ?? (message.facts === "stopped" ? "Stopped." : "The answer is complete.");
  showConversation();
  if (wasOnStop) field.focus();
}

function send(text) {
  const last = current.messages.at(-1);
  if (last?.role === "assistant" && last.content === "") current.messages.pop(); // it failed
  current.messages.push({ role: "user", content: text });
  run(current);
}

function retry() {
  current.messages.pop();
  run(current);
  field.focus();
}

function edit(index, text) {
  current.messages.splice(index, Infinity, { role: "user", content: text });
  run(current);
  field.focus();
}

function stop() {
  runs.get(current.id)?.controller.abort();
}

// --- the server

async function meetServer() {
  try {
    const models = await listModels();
    model = models[0]?.id;
    byId("model").textContent = `${model}, ${models[0]?.max_model_len.toLocaleString("en")} tokens`;
    notice("");
    showLoad(localStorage.getItem(LOAD_SHOWN) === "true"); // with the key, if one is needed
  } catch (error) {
    notice(problemOf(error));
    if (error.status === 503 || error.status === 0) setTimeout(meetServer, RETRY_MS);
  }
}

// --- the frame around

function showLoad(shown) {
  byId("load").hidden = !shown;
  byId("toggle-load").setAttribute("aria-expanded", String(shown));
  loadView.show(shown);
}

function toggleLoad() {
  const shown = byId("load").hidden;
  localStorage.setItem(LOAD_SHOWN, String(shown));
  showLoad(shown);
  closeSidebar();
  byId(shown ? "close-load" : "toggle-load").focus();
}

function toggleSidebar(open = byId("toggle-sidebar").getAttribute("aria-expanded") !== "true") {
  byId("toggle-sidebar").setAttribute("aria-expanded", String(open));
  byId("sidebar").classList.toggle("open", open);
  if (open) byId("new-conversation").focus();
}

function closeSidebar() {
  toggleSidebar(false);
}

function setTheme(theme) {
  if (theme === "system") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME, theme);
    document.documentElement.dataset.theme = theme;
  }
}

function fitField() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

function onEscape(event) {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (byId("sidebar").classList.contains("open")) {
    closeSidebar();
    byId("toggle-sidebar").focus();
  } else {
    stop();
  }
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (text === "" || runs.has(current.id)) return;
  field.value = "";
  fitField();
  send(text);
});
field.addEventListener("keydown", (event) => sendOnEnter(event, composer));
field.addEventListener("input", fitField);
document.addEventListener("keydown", onEscape);
byId("stop").addEventListener("click", stop);
byId("new-conversation").addEventListener("click", startConversation);
byId("toggle-sidebar").addEventListener("click", () => toggleSidebar());
document.querySelector("main").addEventListener("click", (event) => {
  if (!byId("toggle-sidebar").contains(event.target)) closeSidebar(); // beside what is laid over it
});
byId("toggle-load").addEventListener("click", toggleLoad);
byId("close-load").addEventListener("click", toggleLoad);
byId("open-settings").addEventListener("click", () => {
  settings.show();
  byId("settings-dialog").showModal();
});
byId("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("settings-dialog").close();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  field.focus();
});
byId("theme").value = document.documentElement.dataset.theme ?? "system";
byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
addEventListener("pagehide", () => runs.forEach(({ conversation }) => save(conversation)));
onOtherTabs(() => {
  if (runs.has(current.id) || loadConversation(current.id) === null) showList();
  else openConversation(current.id);
});

onKeyNeeded(async () => {
  const given = await askForKey();
  if (given) showLoad(!byId("load").hidden);
  return given;
});
openConversation(sessionStorage.getItem(CURRENT) ?? allConversations()[0]?.id ?? "");
meetServer();
