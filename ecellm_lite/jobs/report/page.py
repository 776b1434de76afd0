"""The HTML page about a finished job: its answers, their probabilities, the rows to review, and the failed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ecellm_lite.jobs.report.histogram import Histogram, draw
from ecellm_lite.jobs.statistics import TaskStatistics
from ecellm_lite.jobs.tally import Tally
from ecellm_lite.report import rendering
from ecellm_lite.report.shown import count, cut, rate, span
from ecellm_lite.tasks.registry import TASKS

assert __package__
PACKAGE = __package__  # whose templates are rendered

SHOWN = 30  # at most so many different answers are shown, the most frequent ones


@dataclass(frozen=True, slots=True)
class JobReport:
    """The facts about a finished job that the page shows.

    `table`: a sentence about the table.
    `mappings`: for each task, a sentence that says which columns fill its fields.
    `output`: the file with the answers.
    `reviewed`: whether the job had a review rule.
    """

    table: str
    mappings: Sequence[str]
    output: Path | None
    tally: Tally
    statistics: Sequence[TaskStatistics]
    reviewed: bool = False
    created: str = field(default_factory=lambda: f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC")


@dataclass(frozen=True, slots=True)
class AnswerShare:
    """An answer, how many times it was given, and its share of all counted answers."""

    answer: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Section:
    """The part of the page about one task.

    `answers`: the commonest answers.
    `more`: how many rows have an answer that is not in `answers`.
    `automatic`: the share of answers that needed no review. Answers that a person corrected are not counted. None if
      there is no review rule, or if no answer is counted.
    """

    anchor: str
    title: str
    summary: str
    task: TaskStatistics
    answers: list[AnswerShare]
    more: int
    histogram: Histogram | None
    automatic: float | None


def check_installed() -> None:
    """Raise UsageError if jinja2 is missing. Call this before a job, which may take hours."""
    rendering.check(PACKAGE)


def page(report: JobReport) -> str:
    """Return the page as HTML. Raises UsageError if jinja2 is missing."""
    return rendering.render(
        PACKAGE,
        "job.html",
        report=report,
        tally=report.tally,
        model=next((task.model for task in report.statistics if task.model), None),
        short=_short(report.tally),
        sections=[_section(place, task, report.reviewed) for place, task in enumerate(report.statistics, 1)],
    )


def _section(place: int, task: TaskStatistics, reviewed: bool) -> Section:
    counted = task.answers.total() + task.others
    listed = task.answers.most_common(SHOWN)
    known = TASKS.get(task.task)
    checked = task.automatic + task.reasons.total()
    return Section(
        anchor=f"task-{place}",
        title=cut(task.task.replace("_", " "), 60).capitalize(),
        summary=known.summary if known else "",
        task=task,
        answers=[AnswerShare(name, number, number / counted) for name, number in listed],
        more=counted - sum(number for _, number in listed),
        histogram=draw(task.bins),
        automatic=task.automatic / checked if reviewed and checked else None,
    )


def _short(tally: Tally) -> str:
    rows = f"{count(tally.rows)} {'row' if tally.rows == 1 else 'rows'} in {span(tally.seconds)}"
    speed = f" ({rate(tally.rows / tally.seconds)} rows/s)" if tally.seconds else ""
    lost = f"{count(tally.failed)} failed" if tally.failed else "none failed"
    return f"{rows}{speed}, {lost}."
