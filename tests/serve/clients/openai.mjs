// OpenAI's own client for Node against a server: node openai.mjs BASE_URL, where `openai` is in node_modules beside it.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "placeholder", maxRetries: 0 });
const messages = [{ role: "user", content: "Is it loud?" }];
const text = { model: "fake", messages, max_completion_tokens: 8 };

const answer = await client.post("/tasks/sentiment_analysis", { body: { row: { review: "Works, but it is loud." } } });
assert.equal(typeof answer.probability, "number");

const decision = await client.post("/decisions", {
  body: {
    model: "fake",
    input: "Works, but it is loud.",
    questions: [
      { type: "predicate", instructions: "Is it loud?" },
      { type: "choice", instructions: "Which desk?", choices: [{ value: "sales" }, { value: "repairs" }] },
    ],
  },
});
assert.ok(decision.answers[0].probability >= 0 && decision.answers[0].probability <= 1);
assert.ok(["sales", "repairs"].includes(decision.answers[1].choice));

const completion = await client.completions.create({ model: "fake", prompt: "Once", max_tokens: 8 });
assert.equal(typeof completion.choices[0].text, "string");

const whole = await client.chat.completions.create(text);
let pieces = "";
for await (const piece of await client.chat.completions.create({ ...text, stream: true })) {
  pieces += piece.choices[0]?.delta?.content ?? "";
}
assert.equal(pieces, whole.choices[0].message.content);

const schema = { type: "object", properties: { loud: { type: "boolean" } }, required: ["loud"] };
const format = { type: "json_schema", json_schema: { name: "noise", schema, strict: true } };
const parsed = await client.chat.completions.create({ ...text, max_completion_tokens: 40, response_format: format });
assert.equal(typeof JSON.parse(parsed.choices[0].message.content).loud, "boolean");

const models = await client.models.list();
assert.ok(models.data.length >= 1);

await assert.rejects(client.post("/tasks/nonsense", { body: { row: {} } }), OpenAI.NotFoundError);
await assert.rejects(
  client.chat.completions.create({ ...text, tools: [{ type: "function", function: { name: "f" } }] }),
  OpenAI.APIError,
);
