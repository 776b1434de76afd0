"""Claim: 64 callers that each wait for their own answer are at most 5% slower than one job over the same rows.

    python -m benchmarks.callers

The shortest labelled rows of three tasks are answered in two ways. One is `Runtime.answers`, task after task. The other
is 64 threads: each takes the next row from a shuffled list, calls `submit` and waits. The speed of a shared machine
changes over time. So the list is split into parts, and each part is answered in both ways, one right after the other.
The processor time that an idle Runtime takes is measured too.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite import Runtime

TASKS = ("product_relation_prediction", "product_matching", "sentiment_analysis")
CALLERS = 64
PART = 500  # rows
Row = tuple[str, dict[str, Any]]  # a task and a row


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(CALLERS), default=2000, show_default=True, help="Of all tasks together.")
@click.option("--idle", type=click.FloatRange(0), default=10.0, show_default=True, help="Seconds of the idle Runtime.")
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/callers.json"))
def main(data: Path, rows: int, idle: float, model: str, output: Path) -> None:
    """Answer the rows in batches, as a job does, and from 64 threads, each a row at a time. Write both speeds."""
    mixed = mixed_rows(data, rows)
    ways = {"answers": answer_tasks, "callers": answer_callers}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    processor = dict.fromkeys(ways, 0.0)
    differing = 0
    with Runtime(model) as runtime:
        for task in TASKS:
            runtime.answer(task, next(row for name, row in mixed if name == task))
        for turn, start in enumerate(range(0, len(mixed), PART)):
            part, texts = mixed[start : start + PART], {}
            for way in list(ways)[:: -1 if turn % 2 else 1]:
                started, cpu = time.perf_counter(), time.process_time()
                texts[way] = ways[way](runtime, part)
                seconds[way].append(round(time.perf_counter() - started, 2))
                processor[way] += time.process_time() - cpu
                click.echo(f"{way}: {len(part) / seconds[way][-1]:.2f} rows/s", err=True)
            differing += sum(one != other for one, other in zip(*texts.values(), strict=True))
        cpu = time.process_time()
        time.sleep(idle)
        cpu = time.process_time() - cpu
    ratio = sum(seconds["answers"]) / sum(seconds["callers"])
    facts = {
        "rows": len(mixed),
        "callers": CALLERS,
        "rows_per_second": {way: round(len(mixed) / sum(each), 2) for way, each in seconds.items()},
        "seconds_of_each_part": seconds,
        "ratio": round(ratio, 3),
        "processor_seconds": {way: round(each, 1) for way, each in processor.items()},
        "answers_that_differ": differing,  # near ties, because rows are batched with other rows
        "idle": {"seconds": idle, "cpu_seconds": round(cpu, 4)},
    }
    write_results(output, "callers", facts)
    if ratio < 0.95:
        raise SystemExit(f"The callers reach only {ratio:.3f} of the job's rate.")


def mixed_rows(data: Path, count: int) -> list[Row]:
    """Return the shortest rows of the tasks, equally many of each task, shuffled with a fixed seed."""
    mixed = []
    for task in TASKS:
        lines = [line for split in ("test", "train") for line in _lines(data / task / f"{split}.jsonl")]
        rows = [json.loads(line)["input"] for line in sorted(lines, key=len)[: count // len(TASKS)]]
        mixed += [(task, {"input": row}) for row in rows]
    random.Random(0).shuffle(mixed)
    return mixed


def answer_tasks(runtime: Runtime, rows: Sequence[Row]) -> list[str | None]:
    """Answer the rows as one job per task, and return the answers' texts in the order of `rows`."""
    texts: list[str | None] = [None] * len(rows)
    for task in TASKS:
        places = [place for place, (name, _) in enumerate(rows) if name == task]
        answers = runtime.answers(task, (rows[place][1] for place in places))
        for place, answer in zip(places, answers, strict=True):
            texts[place] = answer.text
    return texts


def answer_callers(runtime: Runtime, rows: Sequence[Row]) -> list[str | None]:
    """Answer the rows in CALLERS threads. Each thread submits a row, waits for its answer, and takes the next row.

    Returns the answers' texts in the order of `rows`.
    """
    texts: list[str | None] = [None] * len(rows)
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(rows)):
        places.put(place)

    def call() -> None:
        while True:
            try:
                place = places.get_nowait()
            except queue.Empty:
                return
            texts[place] = runtime.submit(*rows[place]).result().text

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return texts


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


if __name__ == "__main__":
    main()
