"""Claim: deterministic answers are the same bytes in every batch, at 90% of fast mode's rate or more.

    python -m benchmarks.determinism --rows 2000 --repeats 0
    python -m benchmarks.determinism --rows 0 --output benchmarks/results/determinism_rates.json

Labelled rows of all ten tasks are answered in deterministic mode several times. The passes differ in batch size, number
of threads, order of the rows, and whether rows share the computed state of common text. One pass answers only the first
`--alone` rows, one after the other. Answers are compared as JSON, with all digits of their probabilities.

Rates are measured on the rows of each scored task separately. The fast and the deterministic mode are measured
alternately, and the model is loaded anew each time. Without the prompt kernels, deterministic mode computes one row at
a time. The rate without them is measured once.

`--repeats 0` leaves out the rates, and `--rows 0` leaves out the comparison of answers. Other programs may run during
the comparison, but not while rates are measured.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.agreement import SCORED
from benchmarks.facts import write_results
from ecellm_lite import Answer, Runtime
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.kernels import prompt
from ecellm_lite.tasks.registry import TASKS, get_task

WINDOW = 200  # rows that wait or run at a time
WARM_ROWS = 8

Row = tuple[str, dict[str, Any]]  # a task's name, and a labelled row with an id


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of one pass over the rows.

    - `micro_batch`: the maximum number of tokens that the model computes at once.
    - `order`: the order of the rows.
    - `grouped`: whether rows share the computed state of text that they have in common.
    """

    name: str
    micro_batch: int
    threads: int
    order: str
    grouped: bool = True


SETUPS = (
    Setup("256 tokens, rows shuffled", 256, 2, "shuffled"),
    Setup("64 tokens, rows by task", 64, 2, "by task"),
    Setup("512 tokens, rows by task, backwards", 512, 2, "backwards"),
    Setup("100 tokens, one thread, only instructions shared", 100, 1, "shuffled again", grouped=False),
)


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(0), default=2000, show_default=True, help="Of all tasks together.")
@click.option("--alone", type=click.IntRange(1), default=200, show_default=True)
@click.option("--timed-rows", type=click.IntRange(7), default=280, show_default=True, help="Of the scored tasks.")
@click.option("--repeats", type=click.IntRange(0), default=5, show_default=True)
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/determinism.json"))
def main(data: Path, rows: int, alone: int, timed_rows: int, repeats: int, model: str, output: Path) -> None:
    """Compare the answers of several passes over the rows, and measure both modes' rates. Write the results."""
    if reason := prompt.start().reason:
        raise click.ClickException(f"Deterministic mode runs one row at a time here: {reason}.")
    facts: dict[str, Any] = {}
    if rows:
        passes = compare(model, mixed(data, list(TASKS), rows), alone)
        facts |= {"rows": rows, "passes": passes, "identical": all(one["different"] == 0 for one in passes)}
    if repeats:
        rates = measured(model, mixed(data, list(SCORED), timed_rows), repeats)
        medians = {name: median(each) for name, each in rates.items()}
        facts |= {
            "timed_rows": timed_rows,
            "rows_per_second": medians,
            "each_repeat": rates,
            "share_of_fast": round(medians["deterministic"] / medians["fast"], 3),
        }
    write_results(output, "determinism", facts)


def compare(model: str, rows: Sequence[Row], alone: int) -> list[dict[str, Any]]:
    """Answer the rows in several passes. Return, for each pass, how many answers differ from those of the first pass.

    The last pass answers only `alone` rows, one after the other.
    """
    passes: list[dict[str, Any]] = []
    reference: dict[str, str] = {}
    for setup in SETUPS:
        answers = answered(model, setup, ordered(rows, setup.order))
        reference = reference or answers
        passes.append(compared(setup.name, reference, answers))
    answers = one_by_one(model, ordered(rows, "shuffled")[:alone])
    passes.append(compared("each row alone", reference, answers))
    return passes


def mixed(data: Path, tasks: Sequence[str], count: int) -> list[Row]:
    """Return up to `count` labelled rows: the first row of every task, then the second row of every task, and so on.

    Each row gets a unique id.
    """
    lines = {task: (data / get_task(task).name / "test.jsonl").read_text("utf-8").splitlines() for task in tasks}
    chosen: list[Row] = []
    for place in range(max(map(len, lines.values()))):
        for task in tasks:
            if place < len(lines[task]) and len(chosen) < count:
                chosen.append((task, {**json.loads(lines[task][place]), "id": f"{task} {place}"}))
    return chosen


def ordered(rows: Sequence[Row], order: str) -> list[Row]:
    """Return the rows in one of three orders: sorted by task, the reverse of this order, or shuffled.

    If `order` begins with "shuffled", as in "shuffled 2", the rows are shuffled. The whole text is then the seed.
    """
    by_task = sorted(rows, key=lambda row: row[0])
    if order.startswith("shuffled"):
        random.Random(order).shuffle(by_task)
    return by_task[::-1] if order == "backwards" else by_task


def answered(model: str, setup: Setup, rows: Sequence[Row]) -> dict[str, str]:
    """Answer the rows together. Return each answer as JSON; the key is the row's id."""
    waiting: list[Future[Answer]] = []
    answers: list[Answer] = []
    with Runtime(
        model,
        deterministic=True,
        micro_batch=setup.micro_batch,
        threads=setup.threads,
        grouped=setup.grouped,
        prefix_files=False,
    ) as runtime:
        for task, row in rows:
            waiting.append(runtime.submit(task, row))
            if len(waiting) == WINDOW:
                answers.append(waiting.pop(0).result())
        answers.extend(future.result() for future in waiting)
    return {str(answer.id): json.dumps(answer.as_dict()) for answer in answers}


def one_by_one(model: str, rows: Sequence[Row]) -> dict[str, str]:
    """Answer the rows one after the other. Return each answer as JSON; the key is the row's id."""
    with Runtime(model, deterministic=True) as runtime:
        answers = [runtime.answer(task, row) for task, row in rows]
    return {str(answer.id): json.dumps(answer.as_dict()) for answer in answers}


def compared(name: str, reference: dict[str, str], answers: dict[str, str]) -> dict[str, Any]:
    """Count the answers that differ from the reference answers to the same rows.

    In the result, `which` has the ids of the first 20 rows whose answers differ.
    """
    different = sorted(row for row, answer in answers.items() if answer != reference[row])
    click.echo(f"{name}: {len(different)} of {len(answers)} answers differ", err=True)
    return {"name": name, "rows": len(answers), "different": len(different), "which": different[:20]}


def measured(model: str, rows: Sequence[Row], repeats: int) -> dict[str, list[float]]:
    """Return each mode's rates, one per repeat, in rows per second."""
    modes: dict[str, dict[str, Any]] = {
        "fast": {},
        "deterministic": {"deterministic": True},
        "one row at a time": {"deterministic": True, "prompt_kernels": "off"},
    }
    rates: dict[str, list[float]] = {name: [] for name in modes}
    for repeat in range(repeats):
        for name, options in modes.items():
            if repeat and name == "one row at a time":
                continue
            rates[name].append(rate(model, rows, options))
            click.echo(f"{name}: {rates[name][-1]} rows/s", err=True)
    return rates


def rate(model: str, rows: Sequence[Row], options: dict[str, Any]) -> float:
    """Answer the rows with a new Runtime, one task after the other, and return the rows per second.

    Before each task, a few of its rows are answered as a warm-up, which is not timed.
    """
    seconds = 0.0
    with Runtime(model, threads=available_cores(), **options) as runtime:
        for task in dict.fromkeys(task for task, _ in rows):
            own = [row for name, row in rows if name == task]
            list(runtime.answers(task, own[:WARM_ROWS]))
            started = time.perf_counter()
            list(runtime.answers(task, own))
            seconds += time.perf_counter() - started
    return round(len(rows) / seconds, 3)


if __name__ == "__main__":
    main()
