// Asks the service, with a key where it wants one; the tab forgets the key when it is closed.

const NAME = "unispect-key";
let asking = null;
let declined = false;

export async function call(address, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(NAME);
    const headers = { ...options.headers, ...(key ? { "X-API-Key": key } : {}) };
    const response = await fetch(address, { ...options, headers });
    if (response.status !== 401 || declined) return response;
    // Another request may have been given a key meanwhile.
    if (sessionStorage.getItem(NAME) !== key) continue;
    asking ??= askForKey().finally(() => { asking = null; });
    if (!(await asking)) return response;
  }
}

function askForKey() {
  const dialog = document.createElement("dialog");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const button = document.createElement("button");
  input.type = "password";
  input.autocomplete = "off";
  label.className = "field";
  label.append("This service wants a key: ", input);
  button.type = "button";
  button.className = "button primary";
  button.textContent = "Use it";
  dialog.append(label, button);
  document.body.append(dialog);
  return new Promise((resolve) => {
    const finish = () => dialog.close(input.value.trim());
    button.addEventListener("click", finish);
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") finish(); });
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue;
      dialog.remove();
      if (key) sessionStorage.setItem(NAME, key);
      declined = !key;
      resolve(Boolean(key));
    });
    dialog.showModal();
  });
}
