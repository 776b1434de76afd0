// Tables as texts: CSV with commas, semicolons or tabs, and JSON Lines, in and out.

// Returns { columns: [name], rows: [{ name: text }], separator }.
export function readTable(text, name) {
  const clean = text.replace(/^\ufeff/, "");
  return /\.(jsonl|ndjson)$/i.test(name) ? readLines(clean) : readCsv(clean);
}

function readLines(text) {
  const rows = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const shown = (value) => (value === null || value === undefined ? "" : typeof value === "string" ? value : Array.isArray(value) ? value.join("\n") : JSON.stringify(value));
  return { columns, rows: rows.map((row) => Object.fromEntries(columns.map((column) => [column, shown(row[column])]))) };
}

function readCsv(text) {
  const first = text.slice(0, text.indexOf("\n") + 1 || text.length);
  const [separator] = [",", ";", "\t"].sort((one, other) => first.split(other).length - first.split(one).length);
  const [names, ...lines] = cells(text, separator);
  const columns = (names ?? []).map((name, place) => name.trim() || `column ${place + 1}`);
  const rows = lines.filter((line) => line.some((cell) => cell.trim()));
  return { columns, separator, rows: rows.map((line) => Object.fromEntries(columns.map((column, place) => [column, line[place] ?? ""]))) };
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
  if (cell || lines.at(-1).length) end();
  return lines.filter((line) => line.length);
}

export function writeCsv(columns, rows, separator = ",") {
  // A cell that begins as a formula does would be computed by a spreadsheet.
  const safe = (value) => (/^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value);
  const cell = (value) => {
    const text = safe(String(value ?? ""));
    return /[",;\t\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((line) => line.map(cell).join(separator)).join("\r\n");
}
