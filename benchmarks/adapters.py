"""Measures how much memory three adapters on one base model take, compared with three merged models.

    python -m benchmarks.adapters

Rows of three shops are answered in two ways:

- `one_base`: one process runs the demo's base model with three adapters. Each of them is a copy of the demo's adapter,
  scaled by a different factor.
- `three_processes`: `convert` merges each adapter into the base. Each merged model runs in its own process.

The two ways are measured in turn. All rows are submitted at once, with the shops' rows mixed at random. The rate covers
the time from the first row to the last answer. Memory is measured as proportional set size, which counts shared memory
once. The result is the peak of the total memory of all processes.

In addition, one merged model answers all rows (`alone`). Compared with `alone`, `one_base` shows how much an unmerged
adapter costs.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import psutil

from benchmarks.facts import write_results
from ecellm_lite import Answer
from ecellm_lite.answerer import Row
from ecellm_lite.convert.adapter_file import write_adapter_file
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.request import ConversionRequest
from ecellm_lite.demo.build import ADAPTER, ENVELOPE, FILE_TYPE, shipped_weights
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.pipe.child_runtime import ChildRuntime

TASK = "sentiment_analysis"
SHOPS: Mapping[str, float] = {"shop-a": 1.0, "shop-b": 0.9, "shop-c": 0.8}  # the weights of the demo's adapter
WAYS = ("one_base", "three_processes", "alone")
SAMPLE = 0.05  # seconds between two looks at the memory

Mixed = Sequence[tuple[str, Row]]


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", "count", type=click.IntRange(3), default=300, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/adapters.json"))
def main(data: Path, count: int, repeats: int, output: Path) -> None:
    """Measure each way to answer the rows of three shops, and write the ways' rates and memory."""
    rows = mixed_rows(data / TASK / "test.jsonl", count)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    memory: dict[str, float] = dict.fromkeys(WAYS, 0.0)
    answers: dict[str, list[Answer]] = {}
    with TemporaryDirectory() as folder:
        files = written(Path(folder))
        for repeat in range(repeats):
            for way in WAYS if repeat % 2 == 0 else WAYS[::-1]:
                with started(way, files) as children:
                    measurement = measured(children, rows)
                rates[way].append(round(measurement.rate, 3))
                memory[way] = max(memory[way], measurement.memory)
                answers[way] = measurement.answers
                click.echo(f"{way}: {rates[way][-1]} rows/s, {memory[way]:.0f} MiB", err=True)
        adapters = [round(path.stat().st_size / 2**20, 1) for path in files.adapters.values()]
    pairs = zip(answers["one_base"], answers["three_processes"], strict=True)
    facts: dict[str, Any] = {
        "cores": available_cores(),
        "task": TASK,
        "rows": count,
        "file_type": FILE_TYPE,
        "adapter_mib": adapters,
        "rows_per_second": {way: median(each) for way, each in rates.items()},
        "all_rates": rates,
        "peak_memory_mib": {way: round(each, 1) for way, each in memory.items()},
        "same_answers": round(sum(one.value == other.value for one, other in pairs) / count, 4),
    }
    write_results(output, "adapters", facts)


def mixed_rows(path: Path, count: int) -> Mixed:
    """Return `count` pairs of a shop and a labelled row, in random order."""
    lines = path.read_text("utf-8").splitlines()
    names = list(SHOPS)
    rows = [(names[place % 3], {"input": json.loads(lines[place % len(lines)])["input"]}) for place in range(count)]
    random.Random(0).shuffle(rows)
    return rows


@dataclass(frozen=True, slots=True)
class Files:
    """The paths of the base model, and of each shop's adapter and merged model."""

    base: Path
    adapters: Mapping[str, Path]
    merged: Mapping[str, Path]


def written(folder: Path) -> Files:
    """Write three kinds of files: the base model, each shop's adapter, and the base merged with each adapter."""
    files = Files(
        folder / "base.gguf",
        {name: folder / f"{name}.gguf" for name in SHOPS},
        {name: folder / f"{name}-merged.gguf" for name in SHOPS},
    )
    shipped = str(shipped_weights())
    convert(shipped, files.base)
    for name, weight in SHOPS.items():
        write_adapter_file(shipped, ADAPTER, files.adapters[name], weight=weight)
        convert(shipped, files.merged[name], (ADAPTER, weight))
    return files


def convert(base: str, target: Path, *adapters: tuple[Path, float]) -> None:
    """Merge the `adapters` (pairs of path and weight) into a base model, and write it in the demo's file type."""
    request = ConversionRequest(base, target, FILE_TYPE, adapters, envelope=ENVELOPE)
    with prepare_conversion(request) as conversion:
        conversion.run(threads=available_cores())


@contextmanager
def started(way: str, files: Files) -> Iterator[dict[str, tuple[ChildRuntime, str | None]]]:
    """Start the child processes for one way of answering.

    Yields a dict. For each shop, it has the process that answers the shop's rows, and the adapter that the requests
    must name. The adapter is None if it is merged into the process's model.
    """
    with ExitStack() as stack:

        def child(path: Path, **settings: Any) -> ChildRuntime:
            return stack.enter_context(ChildRuntime(path, prefix_files=False, **settings))

        if way == "one_base":
            shared = child(files.base, adapters=files.adapters)
            yield {name: (shared, name) for name in SHOPS}
        elif way == "three_processes":
            yield {name: (child(files.merged[name]), None) for name in SHOPS}
        else:
            alone = child(files.merged["shop-a"])
            yield dict.fromkeys(SHOPS, (alone, None))


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rows per second, the peak memory of all child processes in MiB, and the answers in the rows' order."""

    rate: float
    memory: float
    answers: list[Answer]


def measured(children: Mapping[str, tuple[ChildRuntime, str | None]], rows: Mixed) -> Measurement:
    """Submit all rows at once, wait for the answers, and return the rate, the peak memory and the answers."""
    for name, (child, adapter) in children.items():  # reads the instruction and the weights
        child.answer(TASK, next(row for shop, row in rows if shop == name), adapter=adapter)
    peak, ended = 0.0, threading.Event()
    processes = [psutil.Process(pid) for pid in {child.pid for child, _ in children.values()} if pid]

    def watch() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE):
            peak = max(peak, sum(each.memory_full_info().pss for each in processes) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        futures = [children[shop][0].submit(TASK, row, adapter=children[shop][1]) for shop, row in rows]
        answers = [future.result() for future in futures]
        seconds = time.perf_counter() - began
    finally:
        ended.set()
        watcher.join()
    return Measurement(len(rows) / seconds, peak, answers)


if __name__ == "__main__":
    main()
