"""Claim: with 64 clients, the server has at least 90% of the Runtime's rate, no errors, and memory that does not grow.

    python -m benchmarks.load --llama-server build/bin/llama-server --workers 2

Some requests are labelled rows, the shortest of three tasks. The others are decisions. Each decision is one question
about a review. Every row and every decision is a separate request, and no two requests are the same. The speed of a
shared machine changes over time, so the requests are split into parts. 64 clients send each part to `ecellm-lite serve`
and to llama.cpp's server. llama.cpp's server gets the same prompts, and the grammar that a user would write. In every
second part, 64 threads also give the requests to a Runtime in this process. Every fourth part is also sent to a server
with several workers.

The benchmark ends when the two servers that get every part have each worked for `--seconds`, or when all requests were
sent. Before the first part, the servers and the Runtime answer some requests that are not timed. Rates are compared
part by part. The clients' processor time is part of the load on the machine. The servers and the Runtime use the same
model file and number of threads.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import psutil

from benchmarks.facts import write_results
from benchmarks.peers.grammar import gbnf
from benchmarks.peers.llama_server import MAX_TOKENS, LlamaServer
from ecellm_lite import Runtime
from ecellm_lite.demo.build import ensure_demo
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.models.resolve import resolve
from ecellm_lite.models.store import Store
from ecellm_lite.tasks.questions import question_task
from ecellm_lite.tasks.registry import get_task
from ecellm_lite.tasks.task import Task

TASKS = ("product_relation_prediction", "product_matching", "sentiment_analysis")
QUESTIONS = (
    {"type": "predicate", "instructions": "Is the customer satisfied?"},
    {
        "type": "choice",
        "instructions": "Which desk should read it?",
        "choices": [{"value": "praise"}, {"value": "complaints"}, {"value": "returns"}],
    },
    {
        "type": "score",
        "instructions": "How angry is the customer?",
        "levels": [{"label": "calm"}, {"label": "annoyed"}, {"label": "furious"}],
    },
)
DECISIONS = 4  # every fourth request is a decision
PART = 300  # requests
PATIENCE = 600  # seconds
OURS, RUNTIME, PEER = "ecellm-lite serve", "Runtime", "llama-server"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    A Runtime gets the `row`, our server gets `path` and `body`, and llama.cpp's server gets `completion`.
    """

    task: Task
    row: dict[str, Any]
    path: str
    body: bytes
    completion: bytes


@dataclass(slots=True)
class Way:
    """One way to answer requests, such as a server, and its measurements.

    The requests are sent in parts of a few hundred requests each.

    - `every`: 1 if this way answers all parts, 2 if it answers every second part, and so on.
    - `parts`: how many seconds each part took, by the part's number.
    - `requests`: for each task, the seconds of its requests.
    - `statuses`: how often each HTTP status came back.
    """

    answer: Callable[[Ask], int]
    every: int = 1
    parts: dict[int, float] = field(default_factory=dict)
    requests: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--requests", "count", type=click.IntRange(8), default=4500, show_default=True, help="The most to send.")
@click.option("--seconds", type=click.FloatRange(0), default=600, show_default=True, help="Load on each server.")
@click.option("--part", "size", type=click.IntRange(1), default=PART, show_default=True, help="Requests in a part.")
@click.option("--clients", type=click.IntRange(1), default=64, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--llama-server", "program", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--workers", type=click.IntRange(2), help="Also measure a server with this many.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/load.json"))
def main(
    data: Path,
    count: int,
    seconds: float,
    size: int,
    clients: int,
    model: str,
    program: Path | None,
    workers: int | None,
    output: Path,
) -> None:
    """Send the requests to our server, to llama.cpp's server and to a Runtime, and write the rates."""
    file = resolve(model, Store(), {"demo": ensure_demo}).path
    with ExitStack() as stack:
        runtime = stack.enter_context(Runtime(model))
        asks = mixed(data, count + clients, runtime)
        warming, asks = asks[:clients], asks[clients:]
        port, process = stack.enter_context(serving(model))
        processes = {"server": process}
        ways = {OURS: Way(Client(port, lambda ask: (ask.path, ask.body))), RUNTIME: Way(answering(runtime), 2)}
        if program:
            peer = LlamaServer(program, file, available_cores())
            stack.callback(peer.close)
            processes[PEER] = psutil.Process(peer.pid)
            ways[PEER] = Way(Client(peer.port, lambda ask: ("/completion", ask.completion)))
        if workers:
            port, _ = stack.enter_context(serving(model, "--workers", f"{workers}"))
            ways[f"{OURS} --workers {workers}"] = Way(Client(port, lambda ask: (ask.path, ask.body)), 4)
        for way in ways.values():  # each has then read the instructions
            answer(Way(way.answer), 0, warming, clients)
        memory = [resident(processes)]
        parts = [asks[start : start + size] for start in range(0, count, size)]
        for part, requests in enumerate(parts):
            if all(sum(way.parts.values()) >= seconds for way in ways.values() if way.every == 1):
                break
            names = [name for name, way in ways.items() if part % way.every == 0]
            for name in names[:: -1 if part % 2 else 1]:
                answer(ways[name], part, requests, clients)
                click.echo(f"{name}: {len(requests) / ways[name].parts[part]:.1f} rows/s", err=True)
            memory.append(resident(processes))
        facts = summary(ways, [len(requests) for requests in parts], memory)
    decisions = sum(bool(one.task.definition) for one in asks[: sum(map(len, parts[: len(ways[OURS].parts)]))])
    facts = {"clients": clients, "model": model, "decisions": decisions, **facts}
    write_results(output, "load", facts)
    click.echo(json.dumps(facts, indent=2))


def mixed(data: Path, count: int, runtime: Runtime) -> list[Ask]:
    """Return `count` requests in random order: short labelled rows of each task, and decisions about short reviews.

    Each review is used only once. Raises a ClickException if there are too few labelled rows.
    """
    decisions = count // DECISIONS
    each = (count - decisions) // len(TASKS)
    asks = []
    for name in TASKS:
        missing = count - decisions - each * len(TASKS) if name == TASKS[-1] else 0
        asks += [ask(get_task(name), row, runtime) for row in shortest(data, name, each + missing)]
    reviews = shortest(data, "sentiment_analysis", each + missing + decisions)[each + missing :]
    for number, row in enumerate(reviews):
        asks.append(ask(question_task(QUESTIONS[number % len(QUESTIONS)]), {"state": row["input"]["review"]}, runtime))
    random.Random(1).shuffle(asks)
    return asks


def shortest(data: Path, task: str, count: int) -> list[dict[str, Any]]:
    """Return the `count` shortest rows of a task. No two of them are equal.

    Raises a ClickException if the task has fewer rows.
    """
    rows: dict[str, dict[str, Any]] = {}
    for split in ("test", "train"):
        for line in (data / task / f"{split}.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            rows.setdefault(json.dumps(row["input"]), row)
    if len(rows) < count:
        raise click.ClickException(f"There are only {len(rows)} different rows of {task}; {count} were asked for.")
    return [rows[key] for key in sorted(rows, key=len)[:count]]


def ask(task: Task, row: dict[str, Any], runtime: Runtime) -> Ask:
    """Return one row as three requests: for a Runtime, for `ecellm-lite serve` and for llama.cpp's server."""
    question = task.question(row)
    prompt = runtime.envelope.prompt(question.instruction, question.text, question.options)
    completion = {"prompt": prompt, "n_predict": MAX_TOKENS, "temperature": 0.0, "cache_prompt": True}
    if task.definition:
        body: Any = {"model": runtime.model.name, "input": row["state"], "questions": [task.definition]}
        path = "/v1/decisions"
    else:
        path, body = f"/v1/tasks/{task.name}", {"row": row}
    grammar = {"grammar": gbnf(question.space) or letters(question.options)}
    return Ask(task, row, path, json.dumps(body).encode(), json.dumps({**completion, **grammar}).encode())


def letters(options: Any) -> str:
    """Return a GBNF grammar that allows the letter of each option."""
    return "root ::= " + " | ".join(json.dumps(re.split(r"[:.)]", str(line))[0].strip()) for line in options)


class Client:
    """Sends requests to a server on the loopback interface. Each thread keeps its own connection."""

    def __init__(self, port: int, form: Callable[[Ask], tuple[str, bytes]]) -> None:
        self._port = port
        self._form = form
        self._own = threading.local()

    def __call__(self, ask: Ask) -> int:
        """Send a request, and return the HTTP status of the response, or 0 if there is no response."""
        path, body = self._form(ask)
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
        return int(response.status)


def answering(runtime: Runtime) -> Callable[[Ask], int]:
    """Return a function that sends a request to the Runtime and waits for the answer.

    The function returns 200, or 500 if the answer has an error.
    """

    def submit(ask: Ask) -> int:
        return 500 if runtime.submit(ask.task, ask.row).result().error else 200

    return submit


def answer(way: Way, part: int, asks: Sequence[Ask], clients: int) -> None:
    """Send the requests `asks` from `clients` threads, and add their measurements to `way`, under the number `part`."""
    waiting: queue.SimpleQueue[Ask] = queue.SimpleQueue()
    for one in asks:
        waiting.put(one)

    def work() -> None:
        while True:
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.perf_counter()
            status = way.answer(one)
            way.requests["decision" if one.task.definition else one.task.name].append(time.perf_counter() - started)
            way.statuses[status] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    way.parts[part] = time.perf_counter() - started


@contextmanager
def serving(model: str, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Start `ecellm-lite serve` on a free port, and yield the port and the server's process."""
    command = [sys.executable, "-c", "from ecellm_lite.cli.entry import main; main()", "serve"]
    command += ["--port", "0", "--model", model, *options]
    environment = {**os.environ, "ECELLM_API_KEY": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        lines: list[str] = []
        for line in server.stderr:
            lines.append(line)
            if port := re.search(r"http://\S+:(\d+)", line):
                break
        else:
            raise click.ClickException(f"The server did not start: {''.join(lines)}")
        log = threading.Thread(target=lambda: [None for _ in server.stderr or ()])  # a full pipe would stop the server
        log.start()
        try:
            yield int(port[1]), psutil.Process(server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
            log.join()


def resident(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    """Return the memory in MiB of each process, and of the engine process that the server started."""
    sizes = {name: process.memory_info().rss for name, process in processes.items()}
    sizes["engine"] = sum(child.memory_info().rss for child in processes["server"].children(recursive=True))
    return {name: round(size / 2**20, 1) for name, size in sizes.items()}


def summary(ways: dict[str, Way], sizes: Sequence[int], memory: list[dict[str, float]]) -> dict[str, Any]:
    """Return the rates, latencies and HTTP statuses of each way of answering, and the memory.

    `sizes`: the number of requests in each part of the run.
    `memory`: the memory of each process in MiB, before the first part and after each part.
    """
    ours = ways[OURS].parts
    of = {
        name: [seconds / ours[part] for part, seconds in way.parts.items()]
        for name, way in ways.items()
        if name != OURS
    }
    return {
        "ways": {
            name: {
                "rows_per_second": round(sum(sizes[part] for part in way.parts) / sum(way.parts.values()), 2),
                "seconds": round(sum(way.parts.values()), 1),
                "milliseconds": milliseconds([one for each in way.requests.values() for one in each]),
                "milliseconds_by_task": {task: milliseconds(each) for task, each in sorted(way.requests.items())},
                "statuses": {str(status): number for status, number in sorted(way.statuses.items())},
                "parts": {str(part): round(sizes[part] / seconds, 2) for part, seconds in way.parts.items()},
            }
            for name, way in ways.items()
        },
        "of_the_rate": {name: round(median(values), 3) for name, values in of.items()},
        "memory_mib": memory,
    }


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentiles of times, in milliseconds."""
    if len(seconds) < 2:
        return {}
    return {f"p{percent}": round(1e3 * percentile(seconds, percent), 1) for percent in (50, 95, 99)}


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Return a percentile, such as the 95th."""
    return quantiles(seconds, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
