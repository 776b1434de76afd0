// Tables as texts: CSV with commas, semicolons or tabs, and JSON Lines, in and out. The server reads tables better; this reads those that are too large for it.

import { written } from "./fields.js";

// Returns { columns: [name], rows: [{ name: text }], form: { delimiter, bom } }; form is that of the CSV file to write.
export function readTable(text, name) {
  const clean = text.replace(/^\ufeff/, "");
  const { separator, ...read } = /\.(jsonl|ndjson)$/i.test(name) ? readLines(clean) : readCsv(clean);
  return { ...read, form: { delimiter: separator === ";" ? ";" : ",", bom: clean !== text } };
}

function readLines(text) {
  const rows = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return { columns, rows: rows.map((row) => Object.fromEntries(columns.map((column) => [column, written(row[column])]))) };
}

function readCsv(text) {
  const first = text.slice(0, text.indexOf("\n") + 1 || text.length);
  const [separator] = [",", ";", "\t"].filter((one) => first.includes(one)).sort((one, other) => first.split(other).length - first.split(one).length);
  const [names, ...lines] = cells(text, separator);
  const width = lines.reduce((most, line) => Math.max(most, line.length), names?.length ?? 0);
  const columns = [];
  for (let place = 0; place < width; place += 1) columns.push(distinct(names[place]?.trim() || `column ${place + 1}`, columns));
  const rows = lines.filter((line) => line.some((cell) => cell.trim()));
  return { columns, separator, rows: rows.map((line) => Object.fromEntries(columns.map((column, place) => [column, line[place] ?? ""]))) };
}

function distinct(name, others) {
  for (let count = 1; ; count += 1) {
    const one = count === 1 ? name : `${name} (${count})`;
    if (!others.includes(one)) return one;
  }
}

function cells(text, separator) {
  const lines = [[]];
  let cell = "", quoted = false;
  const end = () => { lines.at(-1).push(cell); cell = ""; };
  for (let place = 0; place < text.length; place += 1) {
    const character = text[place];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[place + 1] === '"') { cell += '"'; place += 1; } else quoted = false;
    } else if (character === '"' && !cell) quoted = true;
    else if (character === separator) end();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[place + 1] === "\n") place += 1;
      end();
      lines.push([]);
    } else cell += character;
  }
  if (quoted) throw new Error("A quotation mark is never closed.");
  if (cell || lines.at(-1).length) end();
  return lines.filter((line) => line.length);
}

// Returns the content of a file: the table's own columns, unchanged, then those that were added. Numbers are probabilities, of which nobody needs more than four decimals.
export function writeCsv(columns, added, rows, { delimiter = ",", bom = false, utf16 = false, decimalComma = false }) {
  // An added cell that begins as a formula does would be computed by a spreadsheet.
  const safe = (text) => (/^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) ? `'${text}` : text);
  const shown = (value) => (typeof value === "number" ? String(Number(value.toFixed(4))).replace(".", decimalComma ? "," : ".") : safe(value ?? ""));
  const quoted = (text) => (/[",;\t\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cells = (row) => [...columns.map((column) => row[column] ?? ""), ...added.map((column) => shown(row[column]))];
  const lines = [[...columns, ...added], ...rows.map(cells)].map((line) => line.map(quoted).join(delimiter));
  const text = (bom ? "\ufeff" : "") + lines.join("\r\n");
  return utf16 ? Uint16Array.from({ length: text.length }, (_, place) => text.charCodeAt(place)) : text;
}
