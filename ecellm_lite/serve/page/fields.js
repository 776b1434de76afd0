// The form of a task's row: its inputs follow from what each field's example looks like.

import { element, title } from "./elements.js";

// The leaves of a row: { path: ["product_1", "title"], list, required, doc, example }.
export function leaves(task) {
  return task.fields.flatMap((field) => {
    const { name, example, required, doc } = field;
    if (Array.isArray(example)) return [{ path: [name], list: true, required, doc, example }];
    if (example !== null && typeof example === "object") {
      const needed = (key) => required && !new RegExp(`\\b${key} \\(optional\\)`).test(field.kind);
      return Object.entries(example).map(([key, value]) => ({
        path: [name, key], list: false, required: needed(key), doc: `${title(key)} of ${name.replaceAll("_", " ")}.`, example: value,
      }));
    }
    return [{ path: [name], list: false, required, doc, example }];
  });
}

export const nameOf = (leaf) => leaf.path.join(".");

export function at(row, path) {
  return path.reduce((value, key) => value?.[key], row);
}

// Put a text into a row, as the field wants it.
export function put(row, leaf, text) {
  if (!text.trim()) return;
  const value = leaf.list ? items(text, leaf) : text;
  const last = leaf.path.length - 1;
  const place = leaf.path.slice(0, last).reduce((inner, key) => (inner[key] ??= {}), row);
  place[leaf.path[last]] = value;
}

// The items of a list: of a JSON list, or one a line. Attributes may share a line.
function items(text, leaf) {
  if (text.trim().startsWith("[")) {
    try { return JSON.parse(text); } catch { /* it is text */ }
  }
  const lines = text.split(leaf.path[0] === "attributes" && !text.includes("{") ? /[,;\n]/ : "\n");
  return lines.map((line) => line.trim()).filter(Boolean).map(read);
}

const read = (line) => {
  if (!line.startsWith("{")) return line;
  try { return JSON.parse(line); } catch { return line; }
};

export const written = (value) => {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.map((item) => (typeof item === "string" ? item : JSON.stringify(item))).join("\n");
  return String(value);
};

// Fill a container with an input for each leaf; returns { row(), fill(row) }.
export function buildForm(container, task, prefix) {
  const inputs = leaves(task).map((leaf) => {
    const id = `${prefix}-${nameOf(leaf)}`;
    const long = leaf.list || written(leaf.example).length > 60 || leaf.path.length === 1;
    const input = element(long ? "textarea" : "input", { id, rows: leaf.list ? 4 : 2, required: leaf.required, "aria-describedby": `${id}-hint` });
    const note = [leaf.list ? "one a line" : "", leaf.required ? "" : "may be left out"].filter(Boolean).join(", ");
    const label = element("label", { for: id }, title(leaf.path.join(": ")), note ? element("small", {}, ` (${note})`) : null);
    container.append(label, input, element("p", { class: "hint", id: `${id}-hint` }, leaf.doc));
    return [leaf, input];
  });
  return {
    row() {
      const row = {};
      for (const [leaf, input] of inputs) put(row, leaf, input.value);
      return row;
    },
    fill(row) {
      for (const [leaf, input] of inputs) {
        input.value = written(at(row, leaf.path));
        if (input.rows) input.rows = Math.min(8, Math.max(2, input.value.split("\n").length, Math.ceil(input.value.length / 60)));
      }
    },
  };
}
