// Questions of one's own about a text.

import { bars, fold, sureness } from "./answer.js";
import { post } from "./api.js";
import { byId, copyable, element } from "./elements.js";
import { model } from "./model.js";
import { snippets } from "./snippets.js";
import { busy, watch } from "./task.js";

const KINDS = [["predicate", "Yes or no"], ["choice", "One of several"], ["score", "A place on a scale"]];
const EXAMPLE = {
  state: "These headphones sound great, but the left ear stopped working after a week.",
  questions: [
    ["predicate", "Is the customer satisfied?", ""],
    ["choice", "Which desk should answer?", "sales: orders and prices\ndelivery: parcels on their way\nrepairs: things that broke"],
    ["score", "How urgent is it?", "can wait\nthis week\ntoday"],
  ],
};

let count = 0;

function questionForm([kind, instructions, lines]) {
  const id = `question-${(count += 1)}`;
  const type = element("select", { id: `${id}-type` }, ...KINDS.map(([value, label]) => element("option", { value }, label)));
  const text = element("input", { id: `${id}-text`, required: true });
  const options = element("textarea", { id: `${id}-options`, rows: 3 });
  const label = element("label", { for: options.id });
  const remove = element("button", { type: "button" }, "Remove");
  const box = element("fieldset", {}, element("legend"),
    element("label", { for: text.id }, "Question"), text, element("label", { for: type.id }, "Kind of answer"), type, label, options,
    element("p", { class: "actions" }, remove));
  [type.value, text.value, options.value] = [kind, instructions, lines];
  const show = () => {
    const predicate = type.value === "predicate";
    label.hidden = options.hidden = predicate;
    options.required = !predicate;
    label.textContent = type.value === "score" ? "Levels, one a line, the lowest first" : "Choices, one a line; what one means may follow after a colon";
  };
  type.addEventListener("change", show);
  remove.addEventListener("click", () => {
    const next = box.nextElementSibling ?? byId("question-add");
    box.remove();
    number();
    (next.querySelector?.("input") ?? next).focus();
  });
  show();
  box.read = () => {
    const question = { type: type.value, instructions: text.value };
    const parts = options.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (type.value === "choice") question.choices = parts.map((line) => {
      const [value, ...rest] = line.split(/:\s+/); // 16:9 is one value
      const description = rest.join(": ").trim();
      return description ? { value: value.trim(), description } : { value: value.trim() };
    });
    if (type.value === "score") question.levels = parts.map((label) => ({ label }));
    return question;
  };
  return box;
}

// Count the questions as they stand; the last one stays.
function number() {
  const boxes = [...byId("questions").children];
  for (const [place, box] of boxes.entries()) {
    box.querySelector("legend").textContent = `Question ${place + 1}`;
    box.querySelector("button").setAttribute("aria-label", `Remove question ${place + 1}`);
    box.querySelector("button").hidden = boxes.length === 1;
  }
  byId("question-form").dispatchEvent(new Event("input"));
}

export function startQuestion() {
  const list = byId("questions");
  byId("state").value = EXAMPLE.state;
  list.append(...EXAMPLE.questions.map(questionForm));
  number();
  watch(byId("question-form"), byId("question-answer"));
  byId("question-add").addEventListener("click", () => {
    const box = questionForm(["predicate", "", ""]);
    list.append(box);
    number();
    box.querySelector("input").focus();
  });
  byId("question-clear").addEventListener("click", () => {
    byId("state").value = "";
    list.replaceChildren(questionForm(["choice", "", ""]));
    number();
    byId("question-answer").replaceChildren();
    byId("state").focus();
  });
  byId("question-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { model: model(), input: byId("state").value, questions: [...list.children].map((box) => box.read()) };
    await busy(byId("question-form"), byId("question-answer"), async () => {
      const decision = await post("/v1/decisions", body);
      const { prompts } = await post("/v1/decisions/prompt", body);
      const cards = decision.answers.map((answer, place) => card(answer, body.questions[place], prompts[place]));
      const tokens = `${decision.usage.input_tokens} tokens were read for all questions together.`;
      return [...cards, element("div", { class: "card" }, element("p", { class: "hint" }, tokens), habit(),
        fold("The same request from a program", ...snippets("/v1/decisions", body).map(([name, text]) => copyable(name, text))))];
    });
  });
}

// The demo is there to be tried; nobody should decide anything by it.
function habit() {
  const text = "The demo model was trained for its ten tasks, not for questions of your own: it shows how they are asked. Decide with a larger model.";
  return model() === "demo" ? element("p", { class: "hint" }, text) : null;
}

function card(answer, question, prompt) {
  const box = element("div", { class: "card" }, element("p", { class: "hint" }, question.instructions));
  if (answer.type === "refusal") box.append(element("h2", { class: "wrong" }, "It cannot be answered: text and question are too long together"));
  if (answer.type === "predicate") {
    const yes = answer.probability >= 0.5;
    box.append(element("h2", {}, yes ? "Yes" : "No"), bars([["Yes", answer.probability, yes], ["No", 1 - answer.probability, !yes]]));
  }
  if (answer.type === "choice") {
    box.append(element("h2", {}, String(answer.choice)), bars(answer.probabilities.map((one) => [String(one.value), one.probability, one.value === answer.choice])));
  }
  if (answer.type === "score") {
    const levels = answer.probabilities;
    const most = Math.max(...levels.map((one) => one.probability));
    const likeliest = levels.find((one) => one.probability === most);
    const mean = `On average ${answer.score.toFixed(2)}, from 0 (${levels[0].label}) to ${levels.length - 1} (${levels.at(-1).label}).`;
    box.append(element("h2", {}, likeliest.label), bars(levels.map((one) => [one.label, one.probability, one === likeliest])), element("p", { class: "hint" }, mean));
  }
  if (answer.confidence !== undefined) box.append(element("p", { class: "hint" }, `Confidence ${sureness(answer.confidence)}`));
  box.append(fold("Prompt", element("pre", {}, prompt)));
  return box;
}
