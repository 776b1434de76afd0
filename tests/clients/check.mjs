// node check.mjs talk|die|start|refuse COMMAND...: the client for Node against the pipe over the fake engine.
import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, EcellmError } from "../../clients/node/index.js";

const TASK = "sentiment_analysis";
const [scenario, ...command] = process.argv.slice(2);
const good = { review: "It works." };
const rows = (count) => Array.from({ length: count }, (_, number) => ({ id: number, review: `row ${number}` }));
const kill = (pid) => process.kill(pid, "SIGKILL");
const isAlive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

async function fails(code, asking) {
  await assert.rejects(asking, (error) => error instanceof EcellmError && error.code === code && error.message.length > 0);
}

async function collect(client, asked, seen = () => {}) {
  const results = [];
  for await (const result of client.askMany(TASK, asked)) {
    results.push(result);
    seen(results.length);
  }
  return results.sort((one, other) => one.index - other.index);
}

function eachOnce(results, count) {
  assert.deepEqual(results.map(({ index, answer }) => [index, answer?.id]), rows(count).map(({ id }) => [id, id]));
}

async function talk() {
  await fails("usage", Client.start({ command, startTimeout: NaN }));
  const client = await Client.start({ command, startTimeout: Infinity });
  const { pid } = client;
  assert.ok(client.ready.tasks.includes(TASK) && client.ready.model.envelope);
  const answer = await client.ask(TASK, good, { options: { calibration: false, priority: "urgent" } });
  assert.ok(answer.probability > 0 && answer.probability <= 1 && answer.probabilities[answer.value] && answer.text);

  eachOnce(await collect(client, rows(200)), 200);
  const mixed = await collect(client, [good, {}, good]);
  assert.deepEqual(mixed.map(({ error }) => error?.code), [undefined, "input", undefined]);

  const question = { type: "predicate", instructions: "Does the customer want a refund?" };
  assert.equal(typeof (await client.ask(question, { state: "I want my money back." })).value, "boolean");

  const id = "🛒 “it's” \"quoted\" \\ \u0007 größe 漢字 \u2028";
  assert.equal((await client.ask(TASK, { id, review: id })).id, id);
  await client.ask(TASK, { review: "half a pair: \ud83d" }).catch((error) => assert.equal(error.code, "input"));

  await fails("input", client.ask(TASK, {}));
  await fails("usage", client.ask("nonsense", good));
  await fails("protocol", client.ask(TASK, good, { options: { nonsense: 1 } }));
  await fails("protocol", client.ask(TASK, { review: "x".repeat(17_000_000) }));
  const cycle = {};
  cycle.review = cycle;
  for (const row of [cycle, { review: 1n }]) await fails("input", client.ask(TASK, row));
  for (const timeout of [NaN, -1, "soon"]) await fails("usage", client.ask(TASK, good, { timeout }));
  for (const timeout of [2 ** 31, Infinity]) assert.ok((await client.ask(TASK, good, { timeout })).text);

  const stop = new AbortController();
  const asked = rows(300).map((row) => client.ask(TASK, row, { signal: stop.signal }).then(() => "answered", ({ code }) => code));
  stop.abort();
  assert.deepEqual(new Set(await Promise.all(asked)), new Set(["cancelled"]));
  await fails("cancelled", client.ask(TASK, good, { signal: stop.signal }));
  for await (const { answer } of client.askMany(TASK, rows(100))) {
    assert.ok(answer);
    break;
  }
  assert.ok((await client.ask(TASK, good)).text);

  await asksWhileItsSourceWaits(client);
  await client.close();
  await client.close();
  assert.equal(client.restarts, 0);
  assert.ok(!isAlive(pid));
  await fails("closed", client.ask(TASK, good));
}

/** A result is given while the next row is awaited, and the source is ended as `for await` ends it. */
async function asksWhileItsSourceWaits(client) {
  let given = 0;
  let wake = () => {};
  let isEnded = false;
  async function* conversation() {
    try {
      for (const row of rows(3)) {
        yield row;
        while (given <= row.id) await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      isEnded = true;
    }
  }
  for await (const { index, answer } of client.askMany(TASK, conversation())) {
    assert.equal(answer.id, index);
    given++;
    wake();
  }
  assert.ok(given === 3 && isEnded);

  const unsent = rows(1);
  const silent = {
    next: () => (unsent.length ? { value: unsent.pop() } : new Promise(() => {})),
    return: () => Promise.reject(new Error("it comes late, and nobody waits for it")),
  };
  for await (const { answer } of client.askMany(TASK, { [Symbol.asyncIterator]: () => silent })) {
    assert.ok(answer);
    break; // and with it ends the wait for a row that never comes
  }

  let read = 0;
  let returned = 0;
  const endless = {
    next: () => ({ value: Promise.resolve({ id: read, review: `row ${read++}` }) }),
    return: () => ({ done: true, returned: returned++ }),
  };
  for await (const { answer } of client.askMany(TASK, { [Symbol.iterator]: () => endless })) {
    assert.ok(answer);
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (answer.id === 2) break;
  }
  assert.ok(read <= 256 + 4 && returned === 1, `${read} ${returned}`);

  async function* failing() {
    yield good;
    throw new RangeError("no more rows");
  }
  await assert.rejects(async () => {
    for await (const result of client.askMany(TASK, failing())) assert.ok(result);
  }, RangeError);
}

async function die() {
  const client = await Client.start({ command });
  eachOnce(await collect(client, rows(300), (count) => count === 20 && kill(client.pid)), 300);
  assert.equal(client.restarts, 1);

  kill(client.pid);
  assert.ok((await client.ask(TASK, good)).text);
  assert.equal(client.restarts, 2);

  await fails("crashed", client.ask(TASK, { review: "poison" }));
  assert.ok((await client.ask(TASK, good)).text);

  await fails("timeout", client.ask(TASK, { review: "hang" }, { timeout: 300 }));
  kill(client.pid);
  assert.ok((await client.ask(TASK, good)).text);

  const hanging = fails("closed", client.ask(TASK, { review: "hang" }));
  const { pid } = client;
  await client.close();
  await hanging;
  assert.ok(!isAlive(pid));
}

async function start() {
  await fails("model", Client.start({ command: [...command, "missing"], stderr: "ignore" }));
  await fails("crashed", Client.start({ command: [...command, "crash"] }));
  await fails("crashed", Client.start({ command: [...command, "foreign"] }));
  await fails("crashed", Client.start({ command: [...command, "never"], startTimeout: 300 }));
  await fails("crashed", Client.start({ command: ["echo", "hello"] }));
  await fails("crashed", Client.start({ command: ["/nonsense/ecellm-lite"] }));
  await Client.start({ command: ["/nonsense/ecellm-lite"] }).catch(({ message, step }) => assert.ok(step && message.includes(step)));

  const note = join(mkdtempSync(join(tmpdir(), "check-")), "note");
  const unlucky = await Client.start({ command: [...command, "crash", note] });
  writeFileSync(note, ""); // from now on a child dies while it loads
  kill(unlucky.pid);
  await fails("crashed", unlucky.ask(TASK, good));
  assert.equal(readFileSync(note, "utf-8"), "started\n".repeat(3));
  rmSync(note);
  assert.ok((await unlucky.ask(TASK, good)).text);
  await unlucky.close();

  const client = await Client.start({ command: [...command, "noisy"], stderr: "ignore" });
  assert.ok((await client.ask(TASK, good)).text);
  // No close: the program ends all the same, and the child with it.
}

/** Restarts that the system refuses: no file may be opened any more, or `spawn` throws. */
async function refuse() {
  const changing = [...command];
  const client = await Client.start({ command: changing });
  kill(client.pid);
  while (client.pid) await new Promise(setImmediate);
  const files = [];
  try {
    for (;;) files.push(openSync("/dev/null"));
  } catch (error) {
    assert.equal(error.code, "EMFILE");
  }
  await fails("crashed", client.ask(TASK, good));
  await fails("crashed", client.ask(TASK, good));
  files.forEach(closeSync);
  assert.ok((await client.ask(TASK, good)).text);

  const { pid } = client;
  const [program] = changing;
  changing[0] = "a name that no program has\0";
  const hanging = fails("crashed", client.ask(TASK, { review: "hang" }));
  kill(pid);
  await hanging;
  await fails("crashed", client.ask(TASK, good));
  await fails("crashed", Client.start({ command: changing }));
  changing[0] = program;
  assert.ok((await client.ask(TASK, good)).text);
  await client.close();
}

process.on("warning", (warning) => {
  throw warning;
});
await { talk, die, start, refuse }[scenario]();
