// An answer as a card: what it is, how sure, what it was read from.

import { copyable, element, percent } from "./elements.js";
import { snippets } from "./snippets.js";

const MOST_BARS = 12;

// rows: [label, share, chosen]
export function bars(rows) {
  const shown = rows.length > MOST_BARS ? [...rows].sort((one, other) => other[1] - one[1]).slice(0, MOST_BARS) : rows;
  const box = element("div", { class: "bars" });
  for (const [label, share, chosen] of shown) {
    const kind = chosen ? "chosen" : null;
    box.append(
      element("span", { class: kind }, label),
      element("progress", { class: kind, max: 1, value: share, "aria-label": `${label}: ${percent(share)}` }),
      element("span", { class: "share" }, percent(share)),
    );
  }
  if (shown.length < rows.length) box.append(element("span", {}, `… and ${rows.length - shown.length} more`));
  return box;
}

export function failure(error, heading = "No answer") {
  const place = error.param ? element("p", { class: "hint" }, `In ${error.param}`) : null;
  return element("div", { class: "card", role: "alert" }, element("h2", { class: "wrong" }, heading), element("p", {}, error.message), place);
}

// The answer to a row of a task; `labels` are the options' lines by their keys, `prompt` what the model read.
export function answerCard(answer, { labels, prompt, path, body, row }) {
  const card = element("div", { class: "card" }, element("h2", {}, headline(answer, labels)));
  if (answer.abstained) card.append(element("p", {}, "Not sure enough: the likeliest answer is below the probability that you asked for."));
  if (answer.type === "extraction" && answer.value) card.append(...extraction(answer.value, row));
  if (answer.type === "ranking" && answer.value) {
    card.append(element("ol", {}, ...answer.value.map((key) => element("li", {}, labels[key] ?? key))));
    card.append(element("p", { class: "hint" }, "How likely each one is to stand first:"));
  }
  if (answer.probabilities) {
    const most = Math.max(...Object.values(answer.probabilities));
    const chosen = (key, share) => (answer.type === "labels" ? Boolean(answer.value?.includes(key)) : share === most);
    card.append(bars(Object.entries(answer.probabilities).map(([key, share]) => [labels[key] ?? key, share, chosen(key, share)])));
  }
  card.append(...remarks(answer));
  card.append(fold("Prompt and timing", timing(answer), element("pre", {}, prompt)));
  card.append(fold("The same request from a program", ...snippets(path, body).map(([label, text]) => copyable(label, text))));
  return card;
}

function headline(answer, labels) {
  if (answer.abstained) return "It abstains";
  if (answer.type === "predicate") return answer.value ? "Yes" : "No";
  if (answer.type === "score") return `${answer.value.toFixed(2)} of ${Object.keys(answer.probabilities).length}`;
  if (answer.type === "ranking") return "Best first";
  if (answer.type === "extraction") return "Found in the texts";
  if (answer.type === "schema") return JSON.stringify(answer.value, null, 1);
  if (answer.type === "labels") return answer.text;
  return labels[answer.value] ?? answer.text ?? "";
}

/** Return whether the calibration with this name corrects probabilities: it may have only thresholds or sets. */
function corrects(calibration) {
  return Boolean(calibration) && !calibration.includes(" without correction ");
}

function remarks(answer) {
  const lines = [];
  if (answer.probability !== null && !answer.abstained) lines.push(`With a limit above ${answer.probability.toFixed(3)} it would abstain.`);
  if (answer.probability !== null && !corrects(answer.calibration)) lines.push("Not calibrated: take the percentages as an order, not as odds.");
  if (answer.shortened) lines.push(`Shortened: ${answer.shortened}.`);
  for (const warning of answer.warnings ?? []) lines.push(warning.message);
  return lines.map((line) => element("p", { class: "hint" }, line));
}

function timing(answer) {
  const { prompt_tokens: prompt, cached_tokens: cached, decoded_tokens: decoded } = answer.usage;
  const facts = [
    ["Time", answer.seconds === null ? "not told in deterministic mode" : `${Math.round(1000 * answer.seconds)} ms`],
    ["Prompt", `${prompt} tokens, ${cached ?? 0} of them read before`],
    ["Generated", `${decoded} tokens`],
    ["Confidence", answer.confidence === null ? "none" : sureness(answer.confidence)],
    ["Calibration", answer.calibration ?? "none"],
    ["Coverage", answer.coverage === null ? "none" : percent(answer.coverage)],
    ["Model", `${answer.model.name}, envelope ${answer.envelope}`],
  ];
  return element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

// Confidence is no probability: beside the percentages it needs its own scale.
export const sureness = (confidence) => `${confidence.toFixed(2)} (0 is a guess, 1 is certain)`;

export function fold(summary, ...children) {
  return element("details", {}, element("summary", {}, summary), ...children);
}

// A line for each attribute, and the texts with what was found in them marked.
function extraction(entries, row) {
  const rows = entries.map((entry) => [`${entry.attribute}: ${entry.value ?? "not there"}`, entry.probability, entry.value !== null]);
  // The model is told of a `title` as the `product title`, and of a list as one text.
  const from = (entry, name) => entry.source === name || entry.source?.endsWith(` ${name}`);
  const marked = Object.entries(row).flatMap(([name, value]) => {
    const own = entries.filter((entry) => from(entry, name));
    const text = Array.isArray(value) ? value.join(", ") : value;
    return own.length && typeof text === "string" ? [element("p", {}, element("strong", {}, `${name}: `), ...spans(text, own))] : [];
  });
  return [bars(rows), ...marked];
}

function spans(text, entries) {
  const lower = text.toLowerCase();
  const places = entries
    .map((entry) => ({ start: lower.indexOf(entry.value), length: entry.value.length, name: entry.attribute }))
    .filter((place) => place.start >= 0)
    .sort((one, other) => one.start - other.start);
  const parts = [];
  let end = 0;
  for (const { start, length, name } of places) {
    if (start < end) continue;
    parts.push(text.slice(end, start), element("mark", { title: name }, text.slice(start, start + length)));
    end = start + length;
  }
  return [...parts, text.slice(end)];
}
