"""Progress on standard error, where a person looks on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ecellm_lite.answers.answer import Answer


@contextmanager
def waiting(what: str, *, hidden: bool) -> Iterator[Callable[[str], None]]:
    """Show a spinner while something takes its time; gives a function that says what it is doing now."""
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(f"{what} …") as status:
        yield lambda now: status.update(f"{now} …")


@contextmanager
def job_progress(rows: Path | int | None, *, hidden: bool, name: str = "rows") -> Iterator[Callable[[Answer], None]]:
    """Give a function to call with each answer; a bar shows rows/s and the time left, and how many failed.

    `rows` is how many there are, or their file (None: standard input).
    """
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        total = _count(rows) if isinstance(rows, Path) else rows
        job = progress.add_task(name, total=total, rate="", failed="")
        started = time.perf_counter()
        done = failures = 0

        def advance(answer: Answer) -> None:
            nonlocal done, failures
            done += 1
            failures += answer.error is not None
            rate = f"{done / (time.perf_counter() - started):.1f} rows/s"
            progress.update(job, completed=done, rate=rate, failed=f"{failures} failed" if failures else "")

        yield advance


def _count(rows: Path) -> int | None:
    """Return how many lines a file has, None for a device or a pipe."""
    if not rows.is_file():
        return None
    with rows.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
