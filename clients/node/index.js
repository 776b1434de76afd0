/**
 * Asks ecellm-lite from Node. A Client starts `ecellm-lite pipe`, speaks its protocol (docs/pipe.md), starts it again
 * when it dies, and asks it again what it had not answered. The types are in index.d.ts.
 */

import { spawn } from "node:child_process";
import { setMaxListeners } from "node:events";
import { createInterface } from "node:readline";

const PROTOCOL = 1;
const ABSENT = "give the path of ecellm-lite as the command, if it is not on the PATH"; // the step of a failed start
const FAREWELL = 5_000; // ms that a child has to end by itself
const WINDOW = 256; // rows of askMany that are on their way at once
const DEATHS = 2; // of children, that fail a request that they had
const LONGEST_WAIT = 2 ** 31 - 1; // ms, some 25 days: a longer timer of Node ends at once
const STARTS = 3; // that fail in a row, and with them all requests that wait

/** Why there is no answer: `code` for programs, `message` for people; `field` and `step` where there are any. */
export class EcellmError extends Error {
  constructor(code, message, { field = null, step = null } = {}) {
    super(message);
    this.name = "EcellmError";
    this.code = code;
    this.field = field;
    this.step = step;
  }
}

/** A child process with a model. Make one with `Client.start`. */
export class Client {
  /** What the child says of itself: version, model, tasks, limits. */
  ready = null;
  /** How often the child was started again. */
  restarts = 0;

  #settings;
  #child = null; // {program, isReady, answered, failure}: `failure` is why it has to go
  #open = new Map(); // id -> {line, deaths, resolve, reject, release}; a child that is ready has been sent all of them
  #lastId = 0;
  #failedStarts = 0; // in a row
  #isClosed = false;
  #started; // {resolve, reject} of the first start

  constructor(settings) {
    this.#settings = settings;
  }

  static async start({ command = ["ecellm-lite", "pipe"], stderr = "inherit", startTimeout = 600_000 } = {}) {
    checkWait("startTimeout", startTimeout);
    const client = new Client({ command, stderr, startTimeout });
    await new Promise((resolve, reject) => {
      client.#started = { resolve, reject };
      client.#startChild();
    });
    return client;
  }

  /** The child's process number; null while there is none. */
  get pid() {
    return this.#child?.program.pid ?? null;
  }

  ask(task, row, { options = {}, timeout = 60_000, signal } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) throw closed();
      if (signal?.aborted) throw cancelled();
      checkWait("timeout", timeout);
      const id = ++this.#lastId;
      const line = asLine({ id, task, row, options });
      if (line.length > this.ready.limits.line_bytes) {
        throw new EcellmError("protocol", `The request has ${line.length} bytes: send a shorter row.`, { field: "row" });
      }
      const drop = (error) => {
        this.#send(asLine({ id, type: "cancel" }));
        this.#settle(id, "reject", error);
      };
      const abort = () => drop(cancelled());
      const late = () => drop(new EcellmError("timeout", `There was no answer in ${timeout} ms.`));
      const timer = setTimeout(late, Math.min(timeout, LONGEST_WAIT));
      const release = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
      };
      if (signal) setMaxListeners(0, signal); // one for many requests is no leak
      signal?.addEventListener("abort", abort);
      this.#open.set(id, { line, deaths: 0, resolve, reject, release });
      if (this.#child) this.#send(line);
      else this.#restart();
      this.#holdHost(true);
    });
  }

  async *askMany(task, rows, { options, timeout = 600_000, signal } = {}) {
    const source = rows[Symbol.asyncIterator]?.() ?? rows[Symbol.iterator]();
    const stop = new AbortController();
    const stopNow = () => stop.abort();
    if (signal?.aborted) stopNow();
    signal?.addEventListener("abort", stopNow);
    const results = [];
    let asked = 0;
    let given = 0;
    let isReading = false; // the next row, until it was asked
    let arrival = null; // what the source gave: {done, row}, or {done, failure}
    let isRead = false; // to its end, or until it failed
    let wake = () => {};
    const read = async () => {
      isReading = true;
      try {
        const { done, value } = await source.next();
        arrival = { done, row: done ? null : await value };
      } catch (failure) {
        arrival = { done: true, failure };
      }
      wake();
    };
    const finish = (result) => {
      results.push(result);
      wake();
    };
    const ask = (row) => {
      const index = asked++;
      this.ask(task, row, { options, timeout, signal: stop.signal }).then(
        (answer) => finish({ index, answer, error: null }),
        (error) => finish({ index, answer: null, error }),
      );
    };
    try {
      while (!isRead || given < asked) {
        if (!isRead && !isReading && asked - given < WINDOW) read();
        if (arrival) {
          const { done, row } = arrival;
          if ((isRead = done) && "failure" in arrival) throw arrival.failure;
          if (!done) ask(row);
          isReading = false;
          arrival = null;
        } else if (results.length) {
          given++;
          yield results.shift();
        } else {
          await new Promise((resolve) => (wake = resolve));
        }
      }
    } finally {
      signal?.removeEventListener("abort", stopNow);
      stopNow(); // who breaks off the loop wants no more answers
      if (!isRead) {
        const ending = Promise.resolve(source.return?.());
        if (isReading && !arrival) ending.catch(() => {}); // it may wait for its next row, and that for ever
        else await ending;
      }
    }
  }

  async close() {
    this.#isClosed = true;
    const child = this.#child;
    const isIdle = !this.#open.size && child?.isReady;
    for (const id of [...this.#open.keys()]) this.#settle(id, "reject", closed());
    if (!child) return;
    this.#holdHost(true);
    const ended = new Promise((resolve) => child.program.once("close", resolve));
    const timer = setTimeout(() => child.program.kill("SIGKILL"), isIdle ? FAREWELL : 0);
    child.program.stdin?.end();
    await ended;
    clearTimeout(timer);
  }

  #startChild() {
    const { command, stderr, startTimeout } = this.#settings;
    const [file, ...args] = command;
    const child = { program: null, isReady: false, answered: 0, failure: null };
    const fail = ({ message }) => {
      child.failure ??= new EcellmError("crashed", `${file} does not run (${message}): ${ABSENT}.`, { step: ABSENT });
    };
    try {
      child.program = spawn(file, args, { stdio: ["pipe", "pipe", stderr], windowsHide: true });
    } catch (error) {
      fail(error);
      return this.#ended(child);
    }
    const { program } = child;
    this.#child = child;
    const late = () => this.#dismiss(child, `was not ready in ${startTimeout} ms`);
    const timer = setTimeout(late, Math.min(startTimeout, LONGEST_WAIT));
    program.on("error", fail);
    program.on("close", (code, cause) => {
      clearTimeout(timer);
      this.#ended(child, code ?? cause);
    });
    if (!program.stdin) return; // too many files are open: "error" and "close" follow
    program.stdin.on("error", () => {}); // it is gone, as "close" says too
    createInterface({ input: program.stdout }).on("line", (line) => {
      try {
        this.#received(child, JSON.parse(line));
      } catch {
        this.#dismiss(child, `wrote a line that is not a message: ${line.slice(0, 80)}`);
      }
      if (child.isReady) clearTimeout(timer);
    });
  }

  #restart() {
    this.restarts++;
    this.#startChild();
  }

  #received(child, message) {
    if (child.failure) return;
    if (message.type === "ready") {
      if (message.protocol !== PROTOCOL) return this.#dismiss(child, `speaks protocol ${message.protocol}, not ${PROTOCOL}`);
      this.ready = message;
      child.isReady = true;
      for (const { line } of this.#open.values()) this.#send(line);
      this.#holdHost();
      this.#started.resolve();
    } else if (message.type === "answer") {
      const { answer } = message;
      child.answered++;
      if (answer.error) this.#settle(message.id, "reject", failed(answer.error));
      else this.#settle(message.id, "resolve", answer);
    } else if (message.type === "error") {
      if (message.id === null && !child.isReady) child.failure = failed(message.error); // it does not start
      else this.#settle(message.id, "reject", failed(message.error));
    } else if (message.type === "cancelled") {
      this.#settle(message.id, "reject", cancelled());
    }
  }

  /** The child is gone, and all that it wrote was read. What it had is asked again, once. */
  #ended(child, code) {
    this.#child = null;
    if (this.#isClosed) return;
    const error = child.failure ?? new EcellmError("crashed", `The child process died (${code}).`);
    this.#started.reject(error);
    this.#failedStarts = child.isReady ? 0 : this.#failedStarts + 1;
    for (const [id, request] of [...this.#open]) {
      if (child.isReady) request.deaths++;
      if (request.deaths >= DEATHS || this.#failedStarts >= STARTS) this.#settle(id, "reject", error);
    }
    // No endless loop: each restart costs an answer, a failed start, or a request one of its deaths.
    if (this.#open.size || child.answered) this.#restart();
    this.#holdHost();
  }

  #dismiss(child, what) {
    child.failure ??= new EcellmError("crashed", `The child process ${what}.`);
    child.program.kill("SIGKILL");
  }

  /** What is sent before the child is ready is not: it gets the open requests then. */
  #send(line) {
    if (this.#child?.isReady) this.#child.program.stdin.write(line);
  }

  /** End a request; one that has ended already, or was given up, is none any more. */
  #settle(id, how, value) {
    const request = this.#open.get(id);
    if (!request) return;
    this.#open.delete(id);
    request.release();
    request[how](value);
    this.#holdHost();
  }

  /** A program with nothing more to do may end without `close`, and its child ends with it. */
  #holdHost(isNeeded = this.#open.size > 0) {
    if (!this.#child) return;
    const { program } = this.#child;
    for (const part of [program, program.stdin, program.stdout]) isNeeded ? part?.ref() : part?.unref();
  }
}

function asLine(message) {
  try {
    return Buffer.from(`${JSON.stringify(message)}\n`);
  } catch (error) {
    throw new EcellmError("input", `The request is not JSON: ${error.message.split("\n")[0]}.`);
  }
}

function checkWait(name, milliseconds) {
  if (milliseconds >= 0) return;
  throw new EcellmError("usage", `${name} is ${milliseconds}: give milliseconds, or Infinity.`, { field: name });
}

const failed = ({ code, message, field, step }) => new EcellmError(code, message, { field, step });
const cancelled = () => new EcellmError("cancelled", "The request was cancelled.");
const closed = () => new EcellmError("closed", "The client is closed.");
