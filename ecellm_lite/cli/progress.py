"""Progress on standard error, where a person looks on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ecellm_lite.answers.answer import Answer

if TYPE_CHECKING:
    from ecellm_lite.convert.pipeline import ConversionProgress
    from ecellm_lite.tables.row import Table

# Rows that a job has read when it has answered its first: before that, what was read says nothing of what is left.
READ_AHEAD = 256


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
def job_progress(rows: Table | int, *, hidden: bool, name: str = "rows") -> Iterator[Callable[[Answer], None]]:
    """Give a function to call with each answer; a bar shows rows/s and the time left, and how many failed.

    `rows` is how many there are, or the table that they are read from.
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
    # Answers that go to standard output must not be redirected to the bar's terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        job = progress.add_task(name, total=rows if isinstance(rows, int) else None, rate="", failed="")
        started = time.perf_counter()
        done = failures = 0

        def advance(answer: Answer) -> None:
            nonlocal done, failures
            done += 1
            failures += answer.error is not None
            rate = f"{done / (time.perf_counter() - started):.1f} rows/s"
            failed = f"{failures} failed" if failures else ""
            # A table's length is told by the share of it that was read for so many rows.
            share = None if isinstance(rows, int) else rows.share
            total = round(done / share) if share and done > READ_AHEAD else None
            progress.update(job, completed=done, total=total, rate=rate, failed=failed)

        yield advance


@contextmanager
def conversion_progress(*, hidden: bool) -> Iterator[Callable[[ConversionProgress], None] | None]:
    """Give a function to call with a conversion's progress; a bar shows the bytes read, GB/s and the time left.

    The bar appears with the first call: before it, a download may show bars of its own.
    """
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    job = bar.add_task("bytes", total=None, rate="")

    def advance(progress: ConversionProgress) -> None:
        bar.start()
        bar.update(job, completed=progress.done, total=progress.total, rate=f"{progress.rate / 1e9:.2f} GB/s")
        if progress.done >= progress.total:
            bar.stop()

    try:
        yield advance
    finally:
        bar.stop()
