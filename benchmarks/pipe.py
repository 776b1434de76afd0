"""Claim: an engine in another process answers as fast as one inside the host program, and is soon replaced if it dies.

    python -m benchmarks.pipe

Three ways are measured alternately: a Runtime in this process, a ChildRuntime (its engine is in a child process), and a
host program that talks to `ecellm-lite pipe`. The measurements are:

- throughput: the rows per second for the first rows of each task, when all are requested at once;
- one request: the milliseconds from the request to the answer for one short row, asked repeatedly;
- cold start: the seconds from a process's start to its first answer, with the model's file in the page cache.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.answerer import Answerer, Row
from ecellm_lite.pipe.child_runtime import ChildRuntime
from ecellm_lite.tasks.registry import TASKS

COMMAND = [sys.executable, "-c", "from ecellm_lite.cli.entry import main; main()", "pipe"]
IN_PROCESS = (
    "import sys, ecellm_lite; ecellm_lite.Runtime(sys.argv[1]).answer('sentiment_analysis', {'review': 'Good.'})"
)
TASK, REVIEW = "sentiment_analysis", {"review": "Good."}
WAYS = ("runtime", "child", "pipe")

Answers = Callable[[str, Sequence[Row]], None]


class Host:
    """A program that starts `ecellm-lite pipe` and talks to it."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen([*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._read()

    def answers(self, task: str, rows: Sequence[Row]) -> None:
        """Write all rows to the pipe, and then read an answer for each row."""
        assert self.process.stdin
        lines = [json.dumps({"id": number, "task": task, "row": row}) + "\n" for number, row in enumerate(rows)]
        self.process.stdin.write("".join(lines).encode())
        self.process.stdin.flush()
        for _ in rows:
            assert self._read()["answer"]["error"] is None

    def close(self) -> None:
        """Close the pipe's standard input, and wait until its process has ended."""
        self.process.communicate()

    def _read(self) -> Mapping[str, Any]:
        assert self.process.stdout
        message: Mapping[str, Any] = json.loads(self.process.stdout.readline())
        return message


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(1), default=16, show_default=True, help="Of each task.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/pipe.json"))
def main(data: Path, rows: int, repeats: int, model: str, output: Path) -> None:
    """Measure the Runtime, the ChildRuntime and the pipe, and write their rates and times."""
    with ExitStack() as stack:
        runtime, child = stack.enter_context(Runtime(model)), stack.enter_context(ChildRuntime(model))
        host = Host("--model", model)
        stack.callback(host.close)
        ways: dict[str, Answers] = {"runtime": all_of(runtime), "child": all_of(child), "pipe": host.answers}
        facts: dict[str, Any] = {"one_request": one_request(ways, 20 * repeats)}
        click.echo(json.dumps(facts["one_request"]), err=True)
        facts["tasks"] = {name: throughput(ways, name, data, rows, repeats) for name in TASKS}
    ratios = {way: [task["of_the_runtime"][way] for task in facts["tasks"].values()] for way in WAYS[1:]}
    facts["of_the_runtime"] = {way: round(geometric_mean(each), 3) for way, each in ratios.items()}
    facts["cold_start"] = cold_start(model, repeats)
    click.echo(json.dumps(facts["cold_start"]), err=True)
    write_results(output, "pipe", facts)
    if min(facts["of_the_runtime"].values()) < 0.95:
        raise SystemExit(f"Of the rate in this process: {facts['of_the_runtime']}.")


def all_of(answerer: Answerer) -> Answers:
    """Return a function that answers rows with the Answerer.

    It raises AssertionError at the first row with an error.
    """

    def answers(task: str, rows: Sequence[Row]) -> None:
        for answer in answerer.answers(task, rows):
            assert answer.error is None, answer.error

    return answers


def throughput(ways: Mapping[str, Answers], task: str, data: Path, count: int, repeats: int) -> dict[str, Any]:
    """Return the median rows per second of the Runtime, the ChildRuntime and the pipe on a task.

    The rates are also given as multiples of the Runtime's rate.
    """
    lines = (data / task / "test.jsonl").read_text("utf-8").splitlines()[:count]
    rows = [{"input": json.loads(line)["input"]} for line in lines]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for answers in ways.values():
        answers(task, rows[:1])
    for _, way in itertools.product(range(repeats), ways):
        began = time.perf_counter()
        ways[way](task, rows)
        rates[way].append(round(len(rows) / (time.perf_counter() - began), 3))
    rate = {way: median(each) for way, each in rates.items()}
    click.echo(f"{task}: {rate}", err=True)
    of_the_runtime = {way: round(rate[way] / rate["runtime"], 3) for way in WAYS[1:]}
    return {"rows_per_second": rate, "of_the_runtime": of_the_runtime, "each_repeat": rates}


def one_request(ways: Mapping[str, Answers], repeats: int) -> dict[str, Any]:
    """Return the median milliseconds that the Runtime, the ChildRuntime and the pipe take for one row.

    The difference from the Runtime's time is given too.
    """
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    for number, way in itertools.product(range(repeats + 2), ways):
        began = time.perf_counter()
        ways[way](TASK, [REVIEW])
        if number >= 2:
            milliseconds[way].append(1000 * (time.perf_counter() - began))
    middle = {way: round(median(each), 2) for way, each in milliseconds.items()}
    return {"milliseconds": middle, "added": {way: round(middle[way] - middle["runtime"], 2) for way in WAYS[1:]}}


def cold_start(model: str, repeats: int) -> dict[str, float]:
    """Return the median seconds that a new process needs until its first answer.

    A pipe with `--lazy` is ready before it has loaded the model. The seconds until it is ready are returned too.
    """
    seconds: dict[str, list[float]] = {}

    def note(name: str, began: float) -> None:
        seconds.setdefault(name, []).append(time.perf_counter() - began)

    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", IN_PROCESS, model], check=True)
        note("in process", began)
        for name, options in (("pipe", []), ("pipe --isolated", ["--isolated"]), ("pipe --lazy", ["--lazy"])):
            began = time.perf_counter()
            host = Host("--model", model, *options)
            if name == "pipe --lazy":
                note("pipe --lazy, ready", began)
            host.answers(TASK, [REVIEW])
            note(name, began)
            host.close()
    return {name: round(median(each[1:]), 3) for name, each in seconds.items()}


if __name__ == "__main__":
    main()
