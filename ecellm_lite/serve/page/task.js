// One row of a task.

import { answerCard, failure } from "./answer.js";
import { post } from "./api.js";
import { byId, element, title } from "./elements.js";
import { buildForm } from "./fields.js";
import { named } from "./model.js";

export function taskOptions(tasks) {
  return tasks.map((task) => element("option", { value: task.name }, title(task.name)));
}

export function startTask(tasks) {
  const select = byId("task-name");
  select.append(...taskOptions(tasks));
  const sentiment = tasks.find((task) => task.name === "sentiment_analysis");
  if (sentiment) select.value = sentiment.name;
  let task, form;

  function show() {
    task = tasks.find((one) => one.name === select.value);
    byId("task-summary").textContent = task.summary;
    byId("task-fields").replaceChildren();
    form = buildForm(byId("task-fields"), task, "task");
    form.fill(task.example);
    byId("task-answer").replaceChildren();
  }

  function refill(row) {
    form.fill(row);
    byId("task-answer").replaceChildren();
    byId("task-fields").querySelector("input, textarea").focus();
  }

  byId("task-example").addEventListener("click", () => refill(task.example));
  byId("task-clear").addEventListener("click", () => refill({}));
  watch(byId("task-form"), byId("task-answer"));
  select.addEventListener("change", show);
  byId("task-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const row = form.row();
    const body = { ...named(), row };
    const least = byId("task-least").value;
    if (least) body.options = { min_probability: Number(least) };
    const path = `/v1/tasks/${task.name}`;
    await busy(byId("task-form"), byId("task-answer"), async () => {
      const answer = await post(path, body);
      const reading = await post(`${path}/prompt`, { ...named(), row });
      return [answerCard(answer, { ...reading, path, body, row })];
    });
  });
  show();
}

// Once the form is changed, the answers beside it are said to be older.
export function watch(form, place) {
  form.addEventListener("input", () => place.classList.toggle("older", place.hasChildNodes()));
}

// Show what `work` gives, or why it gives nothing, and let nobody ask twice meanwhile.
export async function busy(form, place, work) {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  place.setAttribute("aria-busy", "true");
  place.classList.remove("older");
  try {
    place.replaceChildren(...(await work()));
  } catch (error) {
    place.replaceChildren(failure(error));
  } finally {
    button.disabled = false;
    place.removeAttribute("aria-busy");
    if (place.getBoundingClientRect().top > innerHeight - 100) place.scrollIntoView();
  }
}
