// The questions that the page asks: for a key, for a name, whether to delete.
import { hasKey, setKey } from "./api.js";

// Shows `dialog`, and resolves to whether it was confirmed rather than dismissed (Escape, Cancel).
function confirmed(dialog) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    dialog.returnValue = "";
    form.onsubmit = (event) => {
      event.preventDefault();
      dialog.close("confirmed");
    };
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirmed"), { once: true });
    dialog.showModal();
  });
}

for (const button of document.querySelectorAll("dialog [data-close]"))
  button.addEventListener("click", () => button.closest("dialog").close());

let asking = null; // whoever needs the key while it is asked for waits for the same answer

export function askForKey() {
  asking ??= (async () => {
    const dialog = document.getElementById("key-dialog");
    const field = dialog.querySelector("input");
    dialog.querySelector("[role=alert]").textContent = hasKey() ? "The server does not accept this key." : "";
    field.value = "";
    try {
      if (!(await confirmed(dialog)) || field.value.trim() === "") return false;
      setKey(field.value.trim());
      return true;
    } finally {
      asking = null;
    }
  })();
  return asking;
}

// The name that was given, or null.
export async function askForName(name) {
  const dialog = document.getElementById("rename-dialog");
  const field = dialog.querySelector("input");
  field.value = name;
  const asked = confirmed(dialog);
  field.select();
  return (await asked) ? field.value.trim() : null;
}

export function askToDelete(name) {
  const dialog = document.getElementById("delete-dialog");
  dialog.querySelector(".subject").textContent = name;
  return confirmed(dialog);
}
