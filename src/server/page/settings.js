// What is asked for with each message of a conversation: the system prompt, and how tokens are drawn. What is left empty
// is left to the server.

// As the API has them: docs/api.md.
const NUMBERS = [
  { name: "temperature", min: 0, max: 2 },
  { name: "top_p", min: 0, max: 1 },
  { name: "top_k", min: 1, whole: true },
  { name: "min_p", min: 0, max: 1 },
  { name: "max_tokens", min: 1, whole: true },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
];

const LAST = "spate.settings"; // those that a new conversation begins with

export function lastSettings() {
  try {
    return { system: "", ...JSON.parse(localStorage.getItem(LAST)) };
  } catch {
    return { system: "" };
  }
}

// The members of a request that they stand for.
export function samplingOf(settings) {
  return Object.fromEntries(NUMBERS.map(({ name }) => [name, settings[name]]).filter(([, value]) => value !== undefined));
}

function problemOf({ min, max = Infinity, whole }, value) {
  if (Number.isNaN(value)) return "A number is needed.";
  if (whole && !Number.isInteger(value)) return "A whole number is needed.";
  if (value >= min && value <= max) return "";
  return Number.isFinite(max) && max < Number.MAX_SAFE_INTEGER ? `From ${min} to ${max}.` : `From ${min}.`;
}

// The form of #settings over the settings that `current()` gives; `changed()` is called when one has another value.
export class SettingsForm {
  constructor(form, current, changed) {
    this.form = form;
    this.current = current;
    this.changed = changed;
    form.elements.system.addEventListener("input", (event) => this.set("system", event.target.value));
    for (const number of NUMBERS) {
      const field = form.elements[number.name];
      field.addEventListener("input", () => this.read(number, field));
    }
    form.querySelector("#reset-settings").addEventListener("click", () => this.reset());
  }

  set(name, value) {
    const settings = this.current();
    if (value === undefined) delete settings[name];
    else settings[name] = value;
    try {
      localStorage.setItem(LAST, JSON.stringify(settings));
    } catch {
      // No room: the conversation says so when it is saved.
    }
    this.changed();
  }

  // A value that cannot be sent is not taken over: the last good one stays.
  read(number, field) {
    const text = field.value.trim().replace(",", ".");
    const problem = text === "" ? "" : problemOf(number, Number(text));
    field.setAttribute("aria-invalid", String(problem !== ""));
    document.getElementById(`${field.id}-problem`).textContent = problem;
    if (problem === "") this.set(number.name, text === "" ? undefined : Number(text));
  }

  show() {
    const settings = this.current();
    this.form.elements.system.value = settings.system ?? "";
    for (const { name } of NUMBERS) {
      const field = this.form.elements[name];
      field.value = settings[name] ?? "";
      field.setAttribute("aria-invalid", "false");
      document.getElementById(`${field.id}-problem`).textContent = "";
    }
  }

  reset() {
    for (const { name } of NUMBERS) this.set(name, undefined);
    this.set("system", "");
    this.show();
  }
}
