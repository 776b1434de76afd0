"""Shows progress on standard error, if that is a terminal."""

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

# Rows that a job reads before its first answer: until then, the share read does not tell how many rows remain.
READ_AHEAD = 256


@contextmanager
def waiting(what: str, *, hidden: bool) -> Iterator[Callable[[str], None]]:
    """Show a spinner during a long step, and yield a function that changes its text."""
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    with console.status(f"{what} …") as status:
        yield lambda text: status.update(f"{text} …")


@contextmanager
def job_progress(rows: Table | int, *, hidden: bool, name: str = "rows") -> Iterator[Callable[[Answer], None]]:
    """Yield a function to call with each answer; a bar shows rows/s, the remaining time and how many failed.

    `rows` is the number of rows, or the table that they are read from.
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
            # A table's length is estimated from the share that was read for these rows.
            share = None if isinstance(rows, int) else rows.share
            total = round(done / share) if share and done > READ_AHEAD else None
            progress.update(job, completed=done, total=total, rate=rate, failed=failed)

        yield advance


@contextmanager
def conversion_progress(*, hidden: bool) -> Iterator[Callable[[ConversionProgress], None] | None]:
    """Yield a function to call with a conversion's progress; a bar shows the bytes read, GB/s and the remaining time.

    The bar appears with the first call, because a download before it may show its own bars.
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
