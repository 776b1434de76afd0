"""Claim: a busy program takes only its fair share of the cores away from the model.

    python -m benchmarks.neighbours

A ChildRuntime (an engine in a child process) answers rows in three situations: alone, next to one program that computes
endlessly (a "hog"), and next to two hogs. Each situation is measured in two ways:

- `plain`: llama.cpp's default. Each call uses all threads, and a waiting thread keeps its core busy for milliseconds.
- `ours`: this project's settings. Waiting threads soon sleep, and busy cores are left to other programs.

`cost_alone` says how much slower `ours` is without hogs. It is the median over pairs of short measurements, because the
machine's own speed may change within seconds. `hog_share` is a hog's processor time divided by the elapsed time: 1 is a
whole core. `fair_share` is the `hog_share` that would result if all threads that want a core got equal time. If other
programs disturbed a measurement, it is repeated.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil

from benchmarks.facts import write_results
from ecellm_lite.answerer import Row
from ecellm_lite.engine.settings import available_cores
from ecellm_lite.pipe.child_runtime import ChildRuntime

TASK = "sentiment_analysis"
ROWS, IN_FLIGHT = 96, 32
HOGS = (1, 2)
SPINNING = "300000"  # libgomp's default
DISTURBED, TRIES = 0.05, 3  # the share of a core that other programs may take, and the most measurements
LEAST = {1: 0.45, 2: 0.30}  # the least share of the rate alone, by the number of hogs
NOTICE = 1.0  # seconds for the hogs to start, and for the engine to notice them
MOST_COST = 0.03  # the largest share of the rate alone that ours may cost
WAYS = ("plain", "ours")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=4.0, show_default=True, help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds next to hogs.")
@click.option("--pairs", type=click.IntRange(1), default=12, show_default=True, help="Pairs of runs without hogs.")
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/neighbours.json"))
def main(data: Path, seconds: float, repeats: int, pairs: int, model: str, output: Path) -> None:
    """Measure how fast rows are answered with llama.cpp's default settings and with ours. Write the results.

    Both settings are measured alone and next to busy programs.
    """
    rows = even_rows(data / TASK / "test.jsonl")
    rates: dict[str, dict[int, list[float]]] = {way: {hogs: [] for hogs in (0, *HOGS)} for way in WAYS}
    shares: dict[str, dict[int, list[float]]] = {way: {hogs: [] for hogs in HOGS} for way in WAYS}
    others: list[float] = []
    with ExitStack() as stack:
        children = {way: stack.enter_context(started(model, way)) for way in WAYS}
        for child in children.values():
            child.answer(TASK, rows[0])
        for pair in range(pairs):
            for way in WAYS if pair % 2 else WAYS[::-1]:
                rates[way][0].append(round(measured_beside(children[way], rows, 0, seconds / 2).rate, 3))
        click.echo(f"alone: {[rates[way][0] for way in WAYS]}", err=True)
        for _, hogs, way in itertools.product(range(repeats), HOGS, WAYS):
            measurement = undisturbed(children[way], rows, hogs, seconds)
            others.append(round(measurement.others, 3))
            rates[way][hogs].append(round(measurement.rate, 3))
            shares[way][hogs].append(round(measurement.hog_share, 3))
            click.echo(f"{way} next to {hogs}: {measurement}", err=True)
    results = {way: summary(rates[way], shares[way]) for way in WAYS}
    cost = 1 - median(ours / plain for ours, plain in zip(rates["ours"][0], rates["plain"][0], strict=True))
    facts = {"cores": available_cores(), "task": TASK, "cost_alone": round(cost, 3), "others": max(others), **results}
    write_results(output, "neighbours", facts)
    kept = results["ours"]["of_the_rate_alone"]
    if cost > MOST_COST or any(kept[hogs] < least for hogs, least in LEAST.items()):
        raise SystemExit(f"It costs {cost:.1%} alone, and the rates beside hogs are {kept} of the one alone.")


def even_rows(path: Path) -> list[Row]:
    """Return labelled rows of middle length. All of them take about the same time."""
    lines = sorted(path.read_text("utf-8").splitlines(), key=len)
    spare = max(0, len(lines) - ROWS) // 2
    return [{"input": json.loads(line)["input"]} for line in lines[spare : spare + ROWS]]


@contextmanager
def started(model: str, way: str) -> Iterator[ChildRuntime]:
    """Start a ChildRuntime and yield it.

    `way` decides how long a waiting thread keeps its core busy. With "plain", this time is the default of GCC's
    OpenMP. With "ours", it is the time that this project sets.
    """
    before = {name: os.environ.pop(name, None) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if way == "plain":
        os.environ["GOMP_SPINCOUNT"] = SPINNING
    with ChildRuntime(model) as child:
        os.environ.pop("GOMP_SPINCOUNT", None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
        yield child


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one measurement.

    - `rate`: rows per second.
    - `hog_share`: the mean processor time of a hog (a program that computes endlessly), as a fraction of one core.
    - `others`: the processor time of all other programs together, as a fraction of one core.
    """

    rate: float
    hog_share: float
    others: float


def undisturbed(child: ChildRuntime, rows: Sequence[Row], hogs: int, seconds: float) -> Measurement:
    """Measure up to TRIES times, until programs other than the engine and the hogs use at most DISTURBED of a core.

    If they use more each time, return the measurement in which they used the least. A hog is a program that
    computes endlessly.
    """
    best = measured_beside(child, rows, hogs, seconds)
    for _ in range(TRIES - 1):
        if best.others <= DISTURBED:
            break
        best = min(best, measured_beside(child, rows, hogs, seconds), key=lambda measurement: measurement.others)
    return best


def measured_beside(child: ChildRuntime, rows: Sequence[Row], hogs: int, seconds: float) -> Measurement:
    """Measure how fast rows are answered next to `hogs` programs that compute endlessly.

    The measurement begins after NOTICE seconds, and ends `seconds` later.
    """
    endless = itertools.cycle(rows)
    waiting = {child.submit(TASK, next(endless)) for _ in range(IN_FLIGHT)}

    def answered(seconds: float) -> int:
        nonlocal waiting
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            count += len(done)
            waiting |= {child.submit(TASK, next(endless)) for _ in done}
        return count

    with ExitStack() as stack:
        processes = [stack.enter_context(hog()) for _ in range(hogs)]
        ours = [psutil.Process(), psutil.Process(child.pid)]
        answered(NOTICE)
        before, began = (machine_seconds(), cpu_seconds(ours), cpu_seconds(processes)), time.perf_counter()
        count = answered(seconds)
        passed = time.perf_counter() - began
        after = (machine_seconds(), cpu_seconds(ours), cpu_seconds(processes))
    for future in waiting:
        future.cancel()
    machine, own, hogged = ((end - start) / passed for start, end in zip(before, after, strict=True))
    return Measurement(count / passed, hogged / max(hogs, 1), machine - own - hogged)


def machine_seconds() -> float:
    """Return the seconds of processor time that all programs have used so far."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of processor time that these processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def hog() -> Iterator[psutil.Process]:
    """Start a process that computes endlessly (a "hog"), and yield it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def summary(rates: dict[int, list[float]], shares: dict[int, list[float]]) -> dict[str, Any]:
    """Return these results for each number of hogs (processes that compute endlessly):

    - the median rows per second;
    - this rate divided by the rate without hogs;
    - the median processor time of one hog, and its fair share, as fractions of a core.
    """
    rate = {hogs: round(median(each), 3) for hogs, each in rates.items()}
    cores = available_cores()
    return {
        "rows_per_second": rate,
        "of_the_rate_alone": {hogs: round(rate[hogs] / rate[0], 3) for hogs in HOGS},
        "hog_share": {hogs: median(each) for hogs, each in shares.items()},
        "fair_share": {hogs: round(min(1.0, cores / (cores + hogs)), 3) for hogs in shares},
        "each_repeat": {"rows_per_second": rates, "hog_share": shares},
    }


if __name__ == "__main__":
    main()
