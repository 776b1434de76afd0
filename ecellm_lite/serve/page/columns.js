// Which column of a table fills which field of a task.

import { leaves, nameOf } from "./fields.js";

// A column that names its rows.
export const ID = /^(id|sku|asin|ean|gtin|nr|no|number)$|[ _-]id$/i;

// A task of one text takes it from a column of such a name, if none has the field's.
const TEXT = /^(text|comment|comments|content|feedback|message|body)$/i;

// Each field of a task, with the column that seems to be it or undefined.
export function guesses(task, columns) {
  const needed = leaves(task).filter((leaf) => leaf.required);
  const only = needed.length === 1 && !needed[0].list ? nameOf(needed[0]) : null;
  return leaves(task).map((leaf) => [leaf, guess(leaf, columns) ?? (nameOf(leaf) === only ? columns.find((column) => TEXT.test(column.trim())) : undefined)]);
}

// The column whose name is a field's: the whole of it, or its last word.
function guess(leaf, columns) {
  const plain = (name) => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const names = [nameOf(leaf), leaf.path.at(-1), leaf.path.join("")].map(plain);
  const likely = columns.filter((column) => !ID.test(column) && !/date|time|url|\bid\b/i.test(column));
  return columns.find((column) => names.includes(plain(column))) ?? likely.find((column) => plain(column).includes(plain(leaf.path.at(-1))));
}
