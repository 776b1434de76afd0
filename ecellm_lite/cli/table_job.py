"""Runs `run --rows`: shows the first prompts of a table, estimates the time, answers the rows, or corrects answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecellm_lite.cli.loading import load_answerer, warn, warn_of_pace
from ecellm_lite.cli.plain import plain
from ecellm_lite.cli.progress import job_progress
from ecellm_lite.errors import EcellmError, JobError
from ecellm_lite.jobs.estimate import Estimate, estimate
from ecellm_lite.jobs.job import Job, JobOptions, open_job
from ecellm_lite.jobs.journal import Journal
from ecellm_lite.jobs.preview import preview
from ecellm_lite.jobs.refusals import refused
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.report.shown import span

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ecellm_lite.answerer import RequestOptions
    from ecellm_lite.answers.space import Space
    from ecellm_lite.cascade import Cascade
    from ecellm_lite.envelopes import Envelope
    from ecellm_lite.jobs.ray_cluster import RayRuntime
    from ecellm_lite.runtime import Runtime
    from ecellm_lite.tasks.task import Task


@dataclass(frozen=True, slots=True)
class TableJob:
    """A table to answer, with the command line's options."""

    tasks: Sequence[Task]
    rows: Path
    output: Path | None
    options: JobOptions
    quiet: bool
    escalate_below: float | None = None
    cluster: bool = False
    address: str | None = None

    def preview(self, envelope: Envelope, count: int, instruction: str | None) -> None:
        """Show the first rows as the task reads them, and their prompts."""
        options = replace(self.options, report=None, review_below=None)
        with open_job(self.rows, None, self.tasks, options) as job:
            _describe(job)
            for text in preview(job, envelope, count, instruction):
                click.echo(plain(text))

    def run(self, options: RequestOptions, model: Mapping[str, Any]) -> None:
        """Answer every row. Raises JobError if some rows failed."""
        with self._open() as job:
            if not self.quiet and job.table.columns is not None:
                _describe(job)
            try:
                with self._load(model) as runtime:
                    if not self.quiet:
                        for task in self.tasks:
                            warn(runtime, task, options)
                        warn_of_pace(runtime)
                    with job_progress(hidden=self.quiet) as progress:
                        tally = job.run(runtime, progress=progress, **options)
            except KeyboardInterrupt:
                self._show_kept(job.journal_path)
                raise
        self._report(tally)
        if tally.failed:
            place = self.output or "standard output"
            raise JobError(f"{tally.failed:,} of {tally.rows:,} rows failed; {place} has their errors.")

    def estimate(self, options: RequestOptions, model: Mapping[str, Any]) -> None:
        """Answer some rows, and print how long all rows will probably take."""
        unwritten = replace(self.options, review_below=None, report=None)
        with (
            open_job(self.rows, None, self.tasks, unwritten) as job,
            self._load(model) as runtime,
        ):
            click.echo(_estimated(estimate(job, runtime, **options)))

    def correct(self, corrections: Path, labelled: Path | None, space: Space | None) -> None:
        """Write a person's corrections into the output. Raises JobError if some could not be applied.

        `corrections`: the review table in which the person wrote.
        `labelled`: a file to write the corrected rows to, with their right answers. None writes no such file.
        `space`: the answer space that the job used in place of the task's own, or None.
        """
        with self._open() as job:
            tally = job.correct(corrections, labelled=labelled, space=space)
        self._report(tally)
        if tally.refusals:
            raise refused(corrections, tally.refusals)

    def _load(self, model: Mapping[str, Any]) -> Runtime | Cascade | RayRuntime:
        return load_answerer(
            model,
            quiet=self.quiet,
            escalate_below=self.escalate_below,
            cluster=self.cluster,
            address=self.address,
        )

    def _open(self) -> AbstractContextManager[Job]:
        return open_job(self.rows, self.output, self.tasks, self.options)

    def _show_kept(self, path: Path | None) -> None:
        """Say how many answers an interrupted job has in its journal, and how to go on."""
        count = 0
        if path and path.is_file():
            with suppress(EcellmError), Journal(path, None) as journal:  # another job may have it open
                count = journal.count()
        if count:
            answers = "1 answer is" if count == 1 else f"{count:,} answers are"
            command = "the same command without --restart" if self.options.restart else "the same command"
            click.echo(f"ecellm-lite: {answers} kept in {path}; {command} goes on.", err=True)

    def _report(self, tally: Tally) -> None:
        if self.quiet:
            return
        rate = tally.rows / tally.seconds if tally.seconds else 0.0
        counts = {
            "failed": tally.failed,
            "shortened": tally.shortened,
            "abstained": tally.abstained,
            "to review": tally.to_review,
            "corrected or confirmed": tally.corrected,
            "answered before": tally.reused,
            "not asked": tally.skipped,
            "with a repeated id": tally.repeated_ids,
        }
        counted = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "failed")
        rows = "1 row" if tally.rows == 1 else f"{tally.rows:,} rows"
        click.echo(f"{rows} in {tally.seconds:.1f} s ({rate:.1f} rows/s), {counted}.", err=True)
        if len(tally.models) > 1 or (tally.models and self.escalate_below is not None):
            click.echo(f"Answered {_shares(tally.models)}.", err=True)
        for note in tally.notes:
            click.echo(f"{note}.", err=True)


def _estimated(result: Estimate) -> str:
    """Return an estimate as sentences: how many rows a job has, and how long it will probably take."""
    about = "" if result.counted else "about " if result.whole else "the first "
    rows = f"{about}{result.rows:,} rows, of which {result.duplicates:,} are duplicates and not answered again"
    failed = f", {result.failed} with an error" if result.failed else ""
    return (
        f"{rows[0].upper()}{rows[1:]}.\n"
        f"{span(result.seconds)} in all ({span(result.least)} to {span(result.most)}), "
        f"estimated from {result.answered} answered rows{failed}."
    ) + (f" Answered {_shares(result.models)}." if len(result.models) > 1 else "")


def _shares(models: Mapping[str, int]) -> str:
    """Return how many answers each model gave, as in `163 by demo (82%), 37 by eCeLLM-M (18%)`."""
    total = sum(models.values())
    return ", ".join(f"{count:,} by {plain(name)} ({count / total:.0%})" for name, count in models.items())


def _describe(job: Job) -> None:
    mappings = "; ".join(part.description for part in job.tasks)
    click.echo(plain(f"{job.table.description}; {mappings}."), err=True)
