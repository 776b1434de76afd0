"""Claim: a long job takes no more memory than a short one.

    python -m benchmarks.memory --minutes 10

First, the fake engine (a stub without a model) answers 20,000 made-up rows. This would show a leak in the scheduler,
its prefix tree or its lists of rows. Then the demo model answers labelled rows of all tasks, over and over, for some
minutes. Resident memory is sampled throughout. The result is how much the memory grows after the first tenth of the
run, when everything has been allocated.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.facts import write_results
from ecellm_lite import Runtime
from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.tasks.registry import TASKS

SAMPLES = 40


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--rows", type=click.IntRange(SAMPLES), default=20_000, show_default=True, help="For the fake engine.")
@click.option("--minutes", type=click.FloatRange(0.1), default=10.0, show_default=True, help="For the demo model.")
@click.option("--threads", type=click.IntRange(1), help="[default: one per core]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/memory.json"))
def main(data: Path, rows: int, minutes: float, threads: int | None, output: Path) -> None:
    """Run the made-up rows and the labelled rows, and write how much memory each run took."""
    fake = over_fake(rows)
    click.echo(json.dumps(fake), err=True)
    demo = over_demo(data, minutes, threads)
    click.echo(json.dumps(demo), err=True)
    write_results(output, "memory", {"fake_engine": fake, "demo_model": demo})


def over_fake(count: int) -> dict[str, Any]:
    """Answer `count` different made-up reviews with the fake engine, and return how the memory grew."""
    rows = (
        {"id": n, "review": f"Number {n} came after {n % 97} days and is {'fine' if n % 3 else 'broken'}."}
        for n in range(count)
    )
    samples: list[float] = []
    with Runtime.over(FakeBackend(sequences=64)) as runtime:
        for place, _ in enumerate(runtime.answers("sentiment_analysis", rows), start=1):
            if place % (count // SAMPLES) == 0:
                samples.append(resident())
    return {"rows": count, **growth(samples)}


def over_demo(data: Path, minutes: float, threads: int | None) -> dict[str, Any]:
    """Answer labelled rows with the demo for `minutes` minutes, and return how the memory grew."""
    started = time.monotonic()
    samples: list[float] = []
    count = 0
    with Runtime("demo", threads=threads) as runtime:
        for task, rows in turns(data):
            for _ in runtime.answers(task, rows):
                count += 1
            passed = time.monotonic() - started
            while len(samples) < SAMPLES and passed >= (len(samples) + 1) * minutes * 60 / SAMPLES:
                samples.append(resident())
            if passed >= minutes * 60:
                break
    return {"minutes": minutes, "rows": count, **growth(samples)}


def turns(data: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield batches of 12 rows, endlessly: one batch of each task, then the next batch of each task, and so on."""
    lines = {task: (data / task / "test.jsonl").read_text("utf-8").splitlines() for task in TASKS}
    for start in itertools.count(step=12):
        for task, texts in lines.items():
            yield task, [json.loads(texts[(start + place) % len(texts)]) for place in range(12)]


def growth(samples: list[float]) -> dict[str, Any]:
    """Return the measured memory in MiB, and how much it grows after the first tenth of the run."""
    settled = samples[len(samples) // 10]
    return {"resident_mib": samples, "growth_mib": round(samples[-1] - settled, 1)}


def resident() -> float:
    """Return this process's resident memory in MiB."""
    return round(psutil.Process().memory_info().rss / 2**20, 1)


if __name__ == "__main__":
    main()
