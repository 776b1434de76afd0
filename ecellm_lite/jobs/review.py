"""Decides which answers a person should review, and defines the review table that lists them.

The review table is written beside the job's output. It has the output's columns and some more: the reason for the
review, an empty column for the correct answer, a key and, if the job has several tasks, the task. The key identifies
the row even if a person sorts the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecellm_lite.answerer import Answerer, KeepsCalibrations, RequestOptions
from ecellm_lite.answers.answer import Answer
from ecellm_lite.errors import UsageError
from ecellm_lite.models.calibrations import Calibration
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tables.results import OwnColumn
from ecellm_lite.tasks.task import Task

AUTO = "auto"

REASON, CORRECTION, KEY, TASK = "review_reason", "correction", "review_key", "review_task"

OUTDATED = "the correction is no longer an answer"
NOT_APPLIED = "the correction was not applied"

KEY_BYTES = 12


@dataclass(frozen=True, slots=True)
class ReviewRule:
    """Says which answers need a review: those that failed, abstained, or have too low a probability.

    `below`: an answer with a lower probability, or without one, needs a review.
    `calibration`: if `below` is None, this calibration's thresholds say which answers need a review.
    """

    below: float | None = None
    calibration: Calibration | None = None

    def reason(self, answer: Answer) -> str | None:
        """Return the reason why a person should review an answer, or None if no review is needed."""
        if answer.error:
            return "error"
        if answer.abstained:
            return "abstained"
        if answer.probability is None:
            return "no probability"
        if self.below is not None:
            return f"probability below {self.below:g}" if answer.probability < self.below else None
        return self._reason_by_calibration(answer, answer.probability)

    def _reason_by_calibration(self, answer: Answer, probability: float) -> str | None:
        calibration = self.calibration
        if calibration is None or calibration.automatic is None or answer.calibration != calibration.name:
            return "no threshold holds for this row"
        threshold = calibration.automatic.threshold(answer)
        if threshold is None:
            return "this answer always needs review"
        if probability < threshold:
            return f"probability below {threshold:.3g}"
        if answer.coverage is None or answer.coverage < calibration.least_coverage:
            return "the row looks unlike those of the calibration"
        return None


def review_rule(below: float | str, answerer: Answerer, task: Task, options: RequestOptions) -> ReviewRule:
    """Return the rule that says which answers need a review.

    `below`: answers with a lower probability need a review. With `auto`, the thresholds of the calibration are used.

    Raises UsageError for `auto` if the calibration has no thresholds.
    """
    if below != AUTO:
        return ReviewRule(below=float(below))
    calibration: Calibration | None = None
    if isinstance(answerer, KeepsCalibrations):
        calibration = answerer.kept_calibration(
            task, calibration=options.get("calibration", "auto"), adapter=options.get("adapter")
        )
    if calibration is None or calibration.automatic is None:
        raise UsageError(
            f"There are no thresholds for {task.name} with this model",
            step="calibrate it for a target precision, or give a probability",
            settings=("review_below",),
        )
    return ReviewRule(calibration=calibration)


def review_of(output: Path) -> Path:
    """Return the path of the review table, which lists the answers in a job's output that a person should review.

    >>> review_of(Path("out/answers.csv")).name
    'answers.review.csv'
    """
    return output.with_name(f"{output.stem}.review{output.suffix}")


def review_columns(options: Sequence[str] = (), *, alone: bool) -> tuple[OwnColumn, ...]:
    """Return the columns that a review table has in addition to the output's columns.

    `options`: the corrections that a spreadsheet program offers in a list.
    `alone`: whether the job has only one task. If so, there is no column for the task.
    """
    columns = (
        OwnColumn(REASON, Kind.TEXT),
        OwnColumn(CORRECTION, Kind.TEXT, tuple(options)),
        OwnColumn(KEY, Kind.TEXT),
    )
    return columns if alone else (OwnColumn(TASK, Kind.TEXT), *columns)


def review_cells(
    task: str | None, reason: str, key: bytes | None, correction: str | None = None
) -> dict[str, str | None]:
    """Return a row's cells in the columns of `review_columns`.

    `task`: None if the job has only one task. `reason`: why the answer needs a review. `key`: identifies the row.
    `correction`: what a person wrote earlier, or None for an empty cell.
    """
    named = {} if task is None else {TASK: task}
    return {**named, REASON: reason, CORRECTION: correction, KEY: shown_key(key)}


def shown_key(key: bytes | None) -> str | None:
    """Return a row's key in the form that the review table shows.

    This form begins with a letter, so no spreadsheet reads it as a number.
    """
    return f"r{key[:KEY_BYTES].hex()}" if key else None
