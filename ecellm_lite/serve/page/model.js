// The model that answers: the only one, or the one that is chosen.

import { byId, element } from "./elements.js";

let names = [];
let select = null;

export const model = () => select?.value ?? names[0];

// A task's request names its model only where there are several.
export const named = () => (names.length > 1 ? { model: model() } : {});

export function startModels(ids) {
  names = ids;
  if (ids.length === 1) {
    byId("model").textContent = ids[0];
    return;
  }
  select = element("select", { id: "model", "aria-label": "Model" }, ...ids.map((id) => element("option", { value: id }, id)));
  byId("model").replaceWith(select);
}
