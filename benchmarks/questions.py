"""Claim: 40 questions about one text are answered at least as fast as by llama-server. The text is read only once.

    python -m benchmarks.questions --llama-server build/bin/llama-server

The text, called a state, is 800 words of labelled reviews. `ecellm-lite serve` gets one request with all 40 questions.
llama.cpp's server gets 40 requests with the same prompts. A grammar allows only "yes" and "no" as answers. The 40
requests are sent in three ways:

- one after the other, with the server's prompt cache and one slot;
- 8 at a time, with the server's prompt cache and 8 slots;
- 8 at a time, without the server's prompt cache.

Each round has a new text. Before the first round, all servers answer questions about another text, so that they have
the instruction in memory. The metrics of `ecellm-lite serve` tell how many tokens our engine read. This number is
compared with the fewest tokens that must be read: the beginning that all prompts share counts once.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from benchmarks.load import PATIENCE, serving
from benchmarks.peers.grammar import gbnf
from benchmarks.peers.llama_server import MAX_TOKENS, SLOTS, LlamaServer
from ecellm_lite import Runtime
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.models.resolve import resolve
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.questions import question_task

OURS, ONE_SLOT, SLOTTED, UNCACHED = "ecellm-lite", "cache, 1 slot", "cache, 8 slots", "no cache, 8 slots"
SUBJECTS = ("price", "size", "colour", "smell", "weight", "noise", "delivery", "packaging", "battery", "instructions")
KINDS = (
    "Does a customer mention the {}?",
    "Is a customer happy with the {}?",
    "Is the {} said to be a reason to return it?",
    "Would the {} be worth a question to the seller?",
)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--words", type=click.IntRange(10), default=800, show_default=True)
@click.option("--questions", "count", type=click.IntRange(2, 40), default=40, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--llama-server", "program", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/questions.json"))
def main(data: Path, words: int, count: int, repeats: int, model: str, program: Path, output: Path) -> None:
    """Send the questions to our server and to llama-server, and write the times."""
    file = resolve(model, Store(), {"demo": ensure_demo}).path
    questions = [kind.format(subject) for kind in KINDS for subject in SUBJECTS][:count]
    states = read_states(data, words, repeats + 1)
    seconds: dict[str, list[float]] = {}
    read = []
    with ExitStack() as stack:
        runtime = stack.enter_context(Runtime(model))
        port, _ = stack.enter_context(serving(model))
        one = LlamaServer(program, file, available_cores(), slots=1)
        stack.callback(one.close)
        eight = LlamaServer(program, file, available_cores())
        stack.callback(eight.close)
        ways: Mapping[str, Callable[[str, Sequence[str]], None]] = {
            OURS: lambda state, asked: decide(port, runtime.model.name, state, asked),
            ONE_SLOT: lambda state, asked: complete(one.port, prompts(runtime, state, asked), 1, cached=True),
            SLOTTED: lambda state, asked: complete(eight.port, prompts(runtime, state, asked), SLOTS, cached=True),
            UNCACHED: lambda state, asked: complete(eight.port, prompts(runtime, state, asked), SLOTS, cached=False),
        }
        for way in ways.values():
            way(states[0], questions[:SLOTS])
        for turn, state in enumerate(states[1:]):
            names = list(ways)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                before = computed(port)
                started = time.perf_counter()
                ways[name](state, questions)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
                click.echo(f"{name}: {seconds[name][-1]:.2f} s", err=True)
                if name == OURS:
                    read.append({"read": computed(port) - before, **needed(runtime, state, questions)})
    best = min(median(seconds[ONE_SLOT]), median(seconds[SLOTTED]))
    facts = {
        "model": model,
        "questions": count,
        "words": words,
        "seconds": {name: round(median(times), 3) for name, times in seconds.items()},
        "times": {name: [round(value, 3) for value in times] for name, times in seconds.items()},
        "faster_than_cached": round(best / median(seconds[OURS]), 2),
        "faster_than_uncached": round(median(seconds[UNCACHED]) / median(seconds[OURS]), 2),
        "tokens": read,
    }
    write_results(output, "questions", facts)
    click.echo(json.dumps(facts, indent=2))


def read_states(data: Path, words: int, count: int) -> list[str]:
    """Return `count` texts of `words` words each. They are cut from one long text of all labelled reviews."""
    lines = (data / "sentiment_analysis" / "test.jsonl").read_text("utf-8").splitlines()
    every = " ".join(json.loads(line)["input"]["review"] for line in lines).split()
    return [" ".join(every[n * words : (n + 1) * words]) for n in range(count)]


def decide(port: int, model: str, state: str, questions: Sequence[str]) -> None:
    """Send all questions to our server in one request."""
    asked = [{"type": "predicate", "instructions": question} for question in questions]
    post(port, "/v1/decisions", {"model": model, "input": state, "questions": asked})


def prompts(runtime: Runtime, state: str, questions: Sequence[str]) -> list[str]:
    """Return the exact prompt of each question."""
    tasks = [question_task({"type": "predicate", "instructions": question}) for question in questions]
    return [runtime.prompt(task, {"state": state}) for task in tasks]


def complete(port: int, prompts: Sequence[str], clients: int, *, cached: bool) -> None:
    """Send the prompts to llama-server, up to `clients` prompts at a time."""
    waiting = list(prompts)[::-1]
    grammar = gbnf(question_task({"type": "predicate", "instructions": "?"}).question({"state": "?"}).space)

    def work() -> None:
        while True:
            try:
                prompt = waiting.pop()
            except IndexError:
                return
            body = {"prompt": prompt, "n_predict": MAX_TOKENS, "temperature": 0.0, "cache_prompt": cached}
            post(port, "/completion", {**body, "grammar": grammar})

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def post(port: int, path: str, body: Any) -> Any:
    """Send a POST request to a server on this machine, and return the response's JSON.

    Raises ClickException for any status but 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise click.ClickException(f"{path} answered {response.status}: {data[:500]!r}")
        return json.loads(data)
    finally:
        connection.close()


def computed(port: int) -> int:
    """Return how many prompt tokens our engine has computed so far. Tokens that it took from memory do not count."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    lines = re.findall(r'^ecellm_tokens_total\{.*?kind="(\w+)".*?\} (\S+)', text, re.MULTILINE)
    return round(sum(float(n) * {"prompt": 1, "cached": -1}.get(kind, 0) for kind, n in lines))


def needed(runtime: Runtime, state: str, questions: Sequence[str]) -> dict[str, int]:
    """Count the tokens of the state (the text that the questions are about) and of the questions' prompts.

    - `common`: the number of tokens at the start that are the same in all prompts.
    - `behind`: the number of tokens after this common start, summed over the prompts.
    - `all`: the lengths of all prompts, summed.
    """
    rows = [runtime.tokenize(prompt) for prompt in prompts(runtime, state, questions)]
    common = next(place for place, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1)
    return {
        "state": len(runtime.tokenize(state)),
        "common": common,
        "behind": sum(len(row) - common for row in rows),
        "all": sum(map(len, rows)),
    }


if __name__ == "__main__":
    main()
