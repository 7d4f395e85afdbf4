// Conversations, kept in the browser: an entry of localStorage each, so that two tabs do not overwrite each other's.
//
// {id, title, created, updated, settings: {system, temperature, ...}, messages: [{role, content, ...}]}

const PREFIX = "spate.conversation.";

export function newConversation(settings) {
  const now = Date.now();
  const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: "", created: now, updated: now, settings: { ...settings }, messages: [] };
}

// Null where there is none, or none that can be read.
export function loadConversation(id) {
  try {
    const conversation = JSON.parse(localStorage.getItem(PREFIX + id));
    return Array.isArray(conversation?.messages) ? { title: "", settings: {}, ...conversation, id } : null;
  } catch {
    return null;
  }
}

// The latest first.
export function allConversations() {
  return Object.keys(localStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => loadConversation(key.slice(PREFIX.length)))
    .filter((conversation) => conversation !== null)
    .sort((a, b) => b.updated - a.updated);
}

// Throws where the browser has no room left.
export function saveConversation(conversation) {
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  } catch {
    throw new Error("this browser has no room left for conversations: export some, then delete them");
  }
}

export function deleteConversation(id) {
  localStorage.removeItem(PREFIX + id);
}

// What the list shows: the title that was given, else how it begins.
export function titleOf(conversation) {
  if (conversation.title !== "") return conversation.title;
  const first = conversation.messages.find((message) => message.role === "user");
  return first ? first.content.trim().split("\n")[0].slice(0, 60) : "New conversation";
}

// Calls when another tab has changed something.
export function onOtherTabs(changed) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key.startsWith(PREFIX)) changed();
  });
}

// Hands the conversation to the user as a file of JSON.
export function exportConversation(conversation) {
  const blob = new Blob([JSON.stringify(conversation, null, 2) + "\n"], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${titleOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "conversation"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
