// Starts the page: its tabs, its keys, and what the server has.

import { failure } from "./answer.js";
import { get } from "./api.js";
import { byId } from "./elements.js";
import { startModels } from "./model.js";
import { startQuestion } from "./question.js";
import { startTable } from "./table.js";
import { startTask } from "./task.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    byId(one.getAttribute("aria-controls")).hidden = !chosen;
  }
}

for (const [place, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(place + step + tabs.length) % tabs.length];
    choose(next);
    next.focus();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.closest?.("form")?.requestSubmit();
});

try {
  const [{ tasks }, { data }] = await Promise.all([get("/v1/tasks"), get("/v1/models")]);
  startModels(data.map((one) => one.id));
  startTask(tasks);
  startQuestion();
  startTable(tasks);
  document.body.dataset.ready = "true";
} catch (error) {
  document.querySelector("main").replaceChildren(failure(error));
}
