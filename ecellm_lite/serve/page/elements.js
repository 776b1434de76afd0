// Elements made in code. Texts are always set as text: nothing that a row or a model holds becomes markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

export const percent = (share) => `${(100 * share).toFixed(1)}%`;

export const title = (name) => name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());

export function copyable(label, text) {
  const button = element("button", { type: "button" }, `Copy ${label}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
  return element("div", {}, element("pre", {}, text), button);
}
