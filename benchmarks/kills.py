"""Claim: an engine that is killed under load is back at its full rate within 3 s. Each request gets exactly one answer.

    python -m benchmarks.kills

Eight clients (threads) send short rows to a ChildRuntime. Meanwhile its child process is killed (SIGKILL) `--kills`
times, at random moments. The rate is the number of answers per second. For each kill:

- first answer: the seconds from the kill to the first answer of the new child process;
- back: the seconds from the kill until the rate has recovered. It has recovered when the mean rate of the next two
  seconds is at least 85% of the rate before the kill;
- rate after: the rate from 3 s after the kill until the next kill, divided by the rate before the kill.

The rate before a kill is measured from 3 s after the previous kill. This rate is measured for each kill, because the
machine's speed may change within seconds. In the results, `rates` has two numbers: `first` is the rate before the first
kill, and `median` is the median rate before a kill. If `median` is as high as `first`, kills do no lasting harm.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.facts import write_results
from ecellm_lite.answerer import Row
from ecellm_lite.answers.answer import Answer
from ecellm_lite.pipe.child_runtime import ChildRuntime

TASK = "sentiment_analysis"
ROWS, CLIENTS, IN_FLIGHT = 96, 8, 2
WINDOW = 2.0  # seconds
FULL = 0.85  # the share of the rate before the kill that counts as full
RECOVERY = 3.0  # seconds from a kill after which the rate should be full again
STEP = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Kill:
    """The measurements of one kill. The module's docstring says how they are made.

    `rate_before`: the answers per second before the kill.
    `first_answer`: the seconds from the kill to the new child's first answer.
    `back`: the seconds until the rate has recovered. None if it had not recovered by the next kill.
    `rate_after`: the rate from 3 s after the kill until the next kill, divided by `rate_before`.
    """

    rate_before: float
    first_answer: float
    back: float | None
    rate_after: float


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data"), show_default=True)
@click.option("--kills", type=click.IntRange(1), default=30, show_default=True)
@click.option("--requests", type=click.IntRange(1), default=2000, show_default=True, help="The fewest in all.")
@click.option("--pause", type=click.FloatRange(4), default=7.0, show_default=True, help="Mean seconds between kills.")
@click.option("--model", default="demo", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("benchmarks/results/kills.json"))
def main(data: Path, kills: int, requests: int, pause: float, model: str, output: Path) -> None:
    """Kill the engine's process again and again under load, and write how the engine recovered."""
    chance = random.Random(7)
    with ChildRuntime(model) as child:
        load = Load(child, short_rows(data / TASK / "test.jsonl"))
        began = time.perf_counter()
        time.sleep(RECOVERY + pause)
        killed: list[tuple[float, float]] = []
        for number in range(kills):
            killed.append(kill(child))
            click.echo(f"kill {number + 1}: ready after {killed[-1][1] - killed[-1][0]:.2f} s", err=True)
            time.sleep(max(0.0, killed[-1][0] + chance.uniform(pause - 1, pause + 1) - time.perf_counter()))
        ended = time.perf_counter()
        while load.answered < requests:
            time.sleep(STEP)
        load.end()
        restarts = child.restarts
    kill_times = [began, *(killed_at for killed_at, _ in killed), ended]
    each = [
        load.recovery(previous, *moments, until)
        for previous, moments, until in zip(kill_times, killed, kill_times[2:], strict=False)
    ]
    facts: dict[str, Any] = {
        "kills": kills,
        "restarts": restarts,
        "clients": CLIENTS,
        "requests": load.submitted,
        "outcomes": dict(load.outcomes),
        "rates": {"first": each[0].rate_before, "median": median(one.rate_before for one in each)},
        "first_answer": {
            "median": median(one.first_answer for one in each),
            "longest": max(k.first_answer for k in each),
        },
        "back": longest_back(each),
        "rate_after": {"median": median(one.rate_after for one in each), "lowest": min(one.rate_after for one in each)},
        "each": [asdict(one) for one in each],
    }
    write_results(output, "kills", facts)
    if load.outcomes.total() != load.submitted or facts["back"]["over_3_s"]:
        raise SystemExit(f"{load.submitted} requests ended as {load.outcomes}; back after {facts['back']}.")


def short_rows(path: Path) -> list[Row]:
    """Return the shortest labelled rows."""
    lines = sorted(path.read_text("utf-8").splitlines(), key=len)[:ROWS]
    return [{"input": json.loads(line)["input"]} for line in lines]


def kill(child: ChildRuntime) -> tuple[float, float]:
    """Kill the child process. Return the time of the kill, and the time when the next child process is ready."""
    pid, restarts = child.pid, child.restarts
    assert pid
    os.kill(pid, signal.SIGKILL)
    killed = time.perf_counter()
    while child.restarts == restarts or not child.ready:
        time.sleep(0.005)
    return killed, time.perf_counter()


class Load:
    """Threads that send requests and record the time of each answer.

    Each thread always has IN_FLIGHT unanswered requests.
    """

    def __init__(self, child: ChildRuntime, rows: Sequence[Row]) -> None:
        self._child, self._rows = child, itertools.cycle(rows)
        self._lock = threading.Lock()
        self._moments: list[float] = []
        self._ending = threading.Event()
        self.submitted = 0
        self.outcomes: Counter[str] = Counter()
        self._clients = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()

    @property
    def answered(self) -> int:
        """How many requests have ended, with an answer or an error."""
        return len(self._moments)

    def end(self) -> None:
        """Submit no more requests, and wait for those in flight."""
        self._ending.set()
        for client in self._clients:
            client.join()

    def rate(self, start: float, end: float) -> float:
        """Return how many requests per second ended between two times."""
        return sum(start < moment <= end for moment in self._moments) / (end - start)

    def recovery(self, previous: float, killed: float, ready: float, until: float) -> Kill:
        """Return the figures of one kill.

        `previous`: the time of the kill before this one. For the first kill, it is the start of the measurement.
        `killed`: the time of this kill.
        `ready`: when the new child process was ready.
        `until`: the time of the kill after this one. For the last kill, it is the end of the measurement.
        """
        before = self.rate(previous + RECOVERY, killed)
        first = min(moment for moment in self._moments if moment > ready)
        starts = itertools.takewhile(lambda start: start + WINDOW <= until, itertools.count(first, STEP))
        back = next((start for start in starts if self.rate(start, start + WINDOW) >= FULL * before), None)
        after = self.rate(killed + RECOVERY, until) / before
        return Kill(
            round(before, 2),
            round(first - killed, 2),
            None if back is None else round(back - killed, 2),
            round(after, 2),
        )

    def _ask(self) -> None:
        waiting: set[Future[Answer]] = set()
        while not self._ending.is_set() or waiting:
            while len(waiting) < IN_FLIGHT and not self._ending.is_set():
                with self._lock:
                    row, number = next(self._rows), self.submitted
                    self.submitted += 1
                future = self._child.submit(TASK, {**row, "id": number})
                future.add_done_callback(self._noted(number))
                waiting.add(future)
            waiting = wait(waiting, return_when=FIRST_COMPLETED).not_done

    def _noted(self, number: int) -> Callable[[Future[Answer]], None]:
        def note(future: Future[Answer]) -> None:
            answer = future.result()
            outcome = answer.error.code if answer.error else "answered"
            with self._lock:
                self.outcomes[outcome if answer.id == number else "another row's answer"] += 1
                self._moments.append(time.perf_counter())

        return note


def longest_back(each: Sequence[Kill]) -> dict[str, Any]:
    """Return the median and the longest time, in seconds, from a kill until the rate of answers had recovered.

    Also count the kills after which the rate took more than RECOVERY seconds to recover, or had not recovered by the
    next kill.
    """
    back = [one.back for one in each if one.back is not None]
    late = sum(one.back is None or one.back > RECOVERY for one in each)
    return {"median": median(back or [0.0]), "longest": max(back, default=None), "over_3_s": late}


if __name__ == "__main__":
    main()
