"""Shows progress on standard error, if standard error is a terminal."""

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
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ecellm_lite.answers.answer import Answer

if TYPE_CHECKING:
    from ecellm_lite.convert.pipeline import ConversionProgress
    from ecellm_lite.jobs.job_row import JobStep


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
def rows_progress(count: int, *, hidden: bool, name: str = "rows") -> Iterator[Callable[[Answer], None]]:
    """Yield a function to call with each of `count` answers.

    A bar shows the rows per second, the remaining time and the failures.
    """
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    with _rows_bar(console, MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        job = bar.add_task(name, total=count, rate="", failed="")
        started = time.perf_counter()
        done = failures = 0

        def advance(answer: Answer) -> None:
            nonlocal done, failures
            done += 1
            failures += answer.error is not None
            bar.update(job, completed=done, rate=_rate(done, started), failed=_failed(failures))

        yield advance


@contextmanager
def job_progress(*, hidden: bool) -> Iterator[Callable[[JobStep], None]]:
    """Yield a function to call with each answer of a job.

    A bar shows the rows per second, the remaining time and the failed rows. Progress is measured in tokens. The total
    number of tokens is estimated from the share of the table that is done.
    """
    from ecellm_lite.jobs.pace import Pace
    from ecellm_lite.report.shown import span

    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda _: None
        return
    with _rows_bar(console, TextColumn("{task.fields[rows]}"), TextColumn("{task.fields[left]}")) as bar:
        job = bar.add_task("rows", total=None, rows="", rate="", left="", failed="")
        pace = Pace(time.perf_counter())

        def advance(step: JobStep) -> None:
            pace.add(step)
            total, seconds = pace.total_rows, pace.seconds_left(time.perf_counter())
            bar.update(
                job,
                completed=pace.tokens,
                total=pace.total_tokens,
                rows=f"{pace.rows:,}" if total is None else f"{pace.rows:,} of about {total:,}",
                rate=_rate(pace.rows, pace.started),
                left="" if seconds is None else f"{span(seconds)} left",
                failed=_failed(pace.failed),
            )

        yield advance


def _rows_bar(console: Console, rows: ProgressColumn, left: ProgressColumn) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        rows,
        TextColumn("{task.fields[rate]}"),
        left,
        TextColumn("{task.fields[failed]}"),
    )
    # rich would otherwise write answers on standard output to the bar's terminal.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False)


def _rate(rows: int, started: float) -> str:
    return f"{rows / (time.perf_counter() - started):.1f} rows/s"


def _failed(failures: int) -> str:
    return f"{failures} failed" if failures else ""


@contextmanager
def bytes_progress(what: str, *, hidden: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar with the bytes done and the remaining time.

    Yield a function to call with the bytes done and the total bytes. Yield None if no bar is to be shown.
    """
    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        job = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)


@contextmanager
def conversion_progress(*, hidden: bool) -> Iterator[Callable[[ConversionProgress], None] | None]:
    """Show a bar with the bytes read, the rate in GB/s and the remaining time.

    Yield a function to call with a conversion's progress. Yield None if no bar is to be shown. The bar appears at the
    first call, because an earlier download may show bars of its own.
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
