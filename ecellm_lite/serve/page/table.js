// A table of rows: columns to fields, answers to all of them, a review of the least certain.

import { failure } from "./answer.js";
import { ApiError, post, readOnServer } from "./api.js";
import { guesses, ID } from "./columns.js";
import { readTable, writeCsv } from "./csv.js";
import { byId, element, percent, title } from "./elements.js";
import { leaves, nameOf, put, written } from "./fields.js";
import { named } from "./model.js";
import { taskOptions } from "./task.js";

const AT_ONCE = 32; // rows of one request
const PREVIEW = 5;

export function startTable(tasks) {
  let table, task, mapping, ids, results = [], answered, stop, loads = 0, unsaved = false;
  const select = byId("table-task");
  select.append(...taskOptions(tasks));

  // Whether the answers shown may go: asked only if they have corrections that were not downloaded.
  const mayGo = () => !(unsaved && results.some(({ correction }) => correction)) || confirm("Your corrections were not downloaded. Go on without them?");

  async function load(file) {
    if (!mayGo()) { byId("file").value = ""; return; } // else the name of this file would stand above the other's answers
    const turn = loads += 1;
    unsaved = false;
    byId("table-form").hidden = byId("table-results").hidden = true;
    byId("table-fault").replaceChildren(element("p", {}, `${file.name} is being read.`));
    try {
      const read = await readFile(file);
      if (turn === loads) open({ ...read, name: file.name }); // else another file was chosen meanwhile
    } catch (error) {
      if (turn !== loads) return;
      table = null;
      byId("table-fault").replaceChildren(failure({ message: error instanceof ApiError ? error.message : "This is neither CSV, TSV nor JSON Lines." }, "The file was not read"));
    }
  }

  function open(read) {
    table = read;
    byId("table-fault").replaceChildren();
    byId("table-commas").checked = table.form.decimalComma || (table.form.delimiter !== ";" && !table.form.utf16 && HAS_COMMAS);
    const fit = (one) => {
      const columns = guesses(one, table.columns);
      return columns.filter(([, column]) => column).length - columns.filter(([leaf, column]) => leaf.required && !column).length;
    };
    select.value = tasks.reduce((best, one) => (fit(one) > fit(best) ? one : best), tasks.find((one) => one.name === "sentiment_analysis") ?? tasks[0]).name;
    byId("table-form").hidden = false;
    byId("table-results").hidden = true;
    const head = element("tr", {}, ...table.columns.map((column) => element("th", { scope: "col" }, column)));
    const rows = table.rows.slice(0, PREVIEW).map((row) => element("tr", {}, ...table.columns.map((column) => element("td", {}, row[column]))));
    const caption = element("caption", {}, table.rows.length > PREVIEW ? `${table.name}: the first ${PREVIEW} rows` : table.name);
    byId("table-preview").replaceChildren(caption, element("thead", {}, head), element("tbody", {}, ...rows));
    show();
  }

  function show() {
    task = tasks.find((one) => one.name === select.value);
    mapping = guesses(task, table.columns).map(([leaf, column]) => [leaf, chooser(`column-${nameOf(leaf)}`, leaf.required, column)]);
    ids = chooser("column-of-ids", false, table.columns.find((column) => ID.test(column)));
    const boxes = mapping.map(([leaf, column]) => element("div", {}, element("label", { for: column.id }, title(leaf.path.join(": "))), column));
    boxes.push(element("div", {}, element("label", { for: ids.id }, "Id of a row", element("small", {}, " (shown in the review)")), ids));
    byId("table-columns").className = "columns";
    byId("table-columns").replaceChildren(...boxes);
    say(table.rows.length === 1 ? "1 row." : `${table.rows.length.toLocaleString("en")} rows.`);
  }

  function chooser(id, required, chosen) {
    const none = element("option", { value: "" }, required ? "choose a column" : "none");
    const select = element("select", { id, required }, none, ...table.columns.map((name) => element("option", { value: name }, name)));
    select.value = chosen ?? "";
    return select;
  }

  async function run(event) {
    event.preventDefault();
    if (!mayGo()) return;
    // What is changed above afterwards changes nothing in these answers.
    const run = answered = { task, table, ids: ids.value };
    const shown = mapping.filter(([leaf, column]) => leaf.required && column.value).map(([, column]) => column.value);
    const rows = run.table.rows.map((source) => {
      const row = {};
      for (const [leaf, column] of mapping) if (column.value) put(row, leaf, source[column.value]);
      return row;
    });
    const answers = results = [];
    stop = new AbortController();
    byId("table-results").hidden = true;
    working(true);
    byId("table-status").scrollIntoView({ block: "nearest" });
    const started = performance.now();
    try {
      let labels;
      for (let start = 0; start < rows.length; start += AT_ONCE) {
        const part = rows.slice(start, start + AT_ONCE).map((row, place) => [row, start + place, run.table.faults?.[start + place]]);
        const asked = part.filter(([, , fault]) => !fault).map(([row]) => row);
        const given = asked.length ? (await patiently(() => post(`/v1/tasks/${run.task.name}`, { ...named(), rows: asked }, stop.signal))).answers : [];
        const good = given.findIndex((answer) => !answer.error);
        if (!labels && good >= 0) labels = await labelsOf(run.task, asked[good], stop.signal);
        for (const [row, number, fault] of part) {
          const answer = fault ? failed(fault) : given.shift();
          const source = run.table.rows[number];
          answers.push({ answer, labels: ownLabels(run.task, row, answer) ?? labels ?? {}, source, text: shown.map((column) => source[column]).join(" · "), correction: null });
        }
        unsaved = true;
        const rate = answers.length / ((performance.now() - started) / 1000);
        byId("table-progress").value = answers.length / rows.length;
        say(`${answers.length} of ${rows.length} rows, ${rate.toFixed(1)} a second, ${Math.ceil((rows.length - answers.length) / rate)} s left.`);
      }
      say(`All ${rows.length} rows in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
    } catch (error) {
      if (error.name === "AbortError") say(`Stopped after ${results.length} rows.`);
      else { say(""); byId("table-status").append(failure(error)); }
    }
    working(false);
    byId("table-results").hidden = !results.length;
    byId("table-answered").textContent = `Answers: ${title(run.task.name)}`;
    review();
    if (results.length) byId("table-status").scrollIntoView();
  }

  function review() {
    const sure = ({ answer }) => (answer.error ? -1 : answer.confidence ?? answer.probability ?? 1);
    const order = results.map((result, number) => [result, number]);
    if (byId("table-sort").checked) order.sort(([one], [other]) => sure(one) - sure(other));
    const head = [answered.ids || "Row", "Text", "Answer", "Probability", "Correction"].map((name) => element("th", { scope: "col" }, name));
    const body = order.map(([result, number]) => line(result, number));
    byId("table-answers").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  }

  function line(result, number) {
    const { answer, labels, source, text } = result;
    const id = answered.ids ? element("td", { class: "id" }, source[answered.ids]) : element("td", { class: "number" }, String(number + 1));
    const shown = answer.error ? element("span", { class: "wrong" }, answer.error.message) : shownValue(answer, labels);
    return element("tr", {}, id, element("td", {}, text.slice(0, 200)), element("td", {}, shown),
      element("td", { class: "number" }, answer.probability === null ? "" : percent(answer.probability)), element("td", {}, correction(result, number)));
  }

  function correction(result, number) {
    const { answer, labels } = result;
    const keys = Object.keys(answer.probabilities ?? {});
    const choices = !["labels", "ranking"].includes(answer.type) && keys.length > 0 && keys.length <= 26;
    const input = choices
      ? element("select", {}, element("option", { value: "" }, "keep the answer"), ...keys.map((key) => element("option", { value: labels[key] ?? key }, labels[key] ?? key)))
      : element("input", { placeholder: "keep the answer" });
    input.setAttribute("aria-label", `Correction of row ${number + 1}`);
    input.value = result.correction ?? "";
    input.addEventListener("change", () => { result.correction = input.value || null; unsaved = true; });
    return input;
  }

  function download() {
    const { columns, form, name } = answered.table;
    // A table may have a column `answer` of its own.
    const free = (wanted) => (columns.includes(wanted) ? free(`${wanted}_2`) : wanted);
    const more = ["answer", "probability", "confidence", "correction", "final", "error"].map(free);
    const every = answered.table.rows.map((source, number) => results[number] ?? { answer: failed("not answered"), labels: {}, source, correction: null });
    const rows = every.map(({ answer, labels, source, correction: corrected }) => {
      const value = answer.error || answer.abstained ? "" : shownValue(answer, labels);
      const cells = [answer.abstained ? "abstains" : value, answer.probability, answer.confidence, corrected, corrected ?? value, answer.error?.message];
      return { ...source, ...Object.fromEntries(more.map((column, place) => [column, cells[place]])) };
    });
    const content = writeCsv(columns, more, rows, chosenForm(form));
    const link = element("a", { href: URL.createObjectURL(new Blob([content], { type: "text/csv" })), download: `${name.replace(/\.[^.]*$/, "")}-${answered.task.name}.csv` });
    link.click();
    URL.revokeObjectURL(link.href);
    unsaved = false;
  }

  function working(on) {
    for (const input of [byId("table-run"), byId("file"), byId("table-sample"), select, ids, ...mapping.map(([, column]) => column)]) input.disabled = on;
    byId("table-stop").hidden = !on;
    byId("table-progress").hidden = !on;
    byId("table-progress").value = 0;
  }

  const say = (text) => { byId("table-status").textContent = text; };

  addEventListener("beforeunload", (event) => unsaved && event.preventDefault());

  const drop = byId("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    const { files } = event.dataTransfer;
    if (kind !== "drop" || !files[0] || byId("file").disabled) return;
    byId("file").files = files;
    load(files[0]);
  });
  byId("file").addEventListener("click", (event) => { event.target.value = ""; }); // the same file may be chosen again
  byId("file").addEventListener("change", (event) => event.target.files[0] && load(event.target.files[0]));
  byId("table-sample").addEventListener("click", () => {
    if (!mayGo()) return;
    byId("file").value = "";
    loads += 1;
    unsaved = false;
    open(sample());
  });
  select.addEventListener("change", () => table && show());
  byId("table-form").addEventListener("submit", run);
  byId("table-stop").addEventListener("click", () => stop.abort());
  byId("table-sort").addEventListener("change", review);
  byId("table-download").addEventListener("click", download);
}

// The server reads a file as jobs do. A text that is too large for it, or for which it lacks a library, is read here.
async function readFile(file) {
  try {
    return await readOnServer(file);
  } catch (error) {
    const data = await file.arrayBuffer();
    const here = error instanceof ApiError && ["table_too_large", "body_too_large", "usage"].includes(error.code);
    const text = decoded(data);
    if (!here || isPacked(data) || text === null) throw error;
    return readTable(text, file.name);
  }
}

// Whether numbers have a decimal comma where the browser's user lives; spreadsheets there expect semicolons between cells.
const HAS_COMMAS = (1.5).toLocaleString(navigator.language).includes(",");

// The form of the file that was read, unless the check box differs from it.
function chosenForm(form) {
  const decimalComma = byId("table-commas").checked;
  if (decimalComma === Boolean(form.decimalComma)) return form;
  if (form.utf16) return { ...form, decimalComma };
  return decimalComma ? { ...form, decimalComma, delimiter: ";", bom: true } : { ...form, decimalComma, delimiter: form.delimiter === ";" ? "," : form.delimiter };
}

function decoded(data) {
  try { return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data); } catch { return null; }
}

// Ask again if the server is busy or away for a moment.
async function patiently(ask) {
  for (let tries = 1; ; tries += 1) {
    try { return await ask(); } catch (error) {
      if (tries === 4 || ![0, 429, 503].includes(error.status)) throw error;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.min(10, error.seconds || tries)); });
    }
  }
}

// The texts of a task's options by their letters, and of a row's own options, such as the candidates of a history.
async function labelsOf(task, row, signal) {
  const { labels } = await post(`/v1/tasks/${task.name}/prompt`, { ...named(), row }, signal).catch(() => ({ labels: {} }));
  return labels;
}

function ownLabels(task, row, answer) {
  const keys = Object.keys(answer.probabilities ?? {});
  const list = leaves(task).filter((leaf) => leaf.list).map((leaf) => row[leaf.path[0]]).find((items) => items?.length === keys.length);
  if (answer.type !== "choice" || !list || keys.some((key) => !/^[A-Z]$/.test(key))) return null;
  return Object.fromEntries([...keys].sort().map((key, place) => [key, `${key}: ${typeof list[place] === "string" ? list[place] : list[place]?.title ?? JSON.stringify(list[place])}`]));
}

const failed = (message) => ({ error: { message }, probability: null, confidence: null, probabilities: null, abstained: false, type: null, value: null });

// Spreadsheets, Parquet, Arrow, gzip and zstd: what begins so is no text.
const PACKED = [[0x50, 0x4b, 3, 4], [0x50, 0x41, 0x52, 0x31], [0x41, 0x52, 0x52, 0x4f], [0xd0, 0xcf, 0x11, 0xe0], [0x1f, 0x8b], [0x28, 0xb5, 0x2f, 0xfd]];

function isPacked(data) {
  const first = new Uint8Array(data.slice(0, 4));
  return PACKED.some((magic) => magic.every((byte, place) => first[place] === byte));
}

function shownValue(answer, labels) {
  if (answer.abstained) return "abstains";
  if (answer.type === "predicate") return answer.value ? "yes" : "no";
  if (answer.type === "extraction") return answer.value.map((entry) => `${entry.attribute}: ${extracted(entry) ?? "none"}`).join("; ");
  if (answer.type === "ranking") return answer.value.join(" ");
  if (answer.type === "labels") return answer.text;
  return labels[answer.value] ?? answer.text ?? written(answer.value);
}

// The model writes values in lower case: shown is what stands in the row, but of a listed value the list's spelling.
function extracted(entry) {
  return entry.id === undefined ? entry.written ?? entry.value : entry.value;
}

function sample() {
  const reviews = [
    "Love it, works as it should.", "It broke after two days.", "Fine for the price, nothing special.", "The colour is not the one in the picture, but it fits.",
    "Best purchase of the year!", "Never arrived, and nobody answers.",
  ];
  return { name: "sample", columns: ["review"], rows: reviews.map((review) => ({ review })), form: {} };
}
