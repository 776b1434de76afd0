"""A row on its way through a job: as its tasks are asked it, and with its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ecellm_lite.answers.answer import Answer
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.row import TableRow


class JobAnswer(NamedTuple):
    """A row as one task is asked it, and its answer, None where it is not asked.

    `key` is what the journal knows it by, None where it has none; a `reused` answer is from there. `share` is the share
    of the table that was read when the row was.
    """

    mapped: MappedRow
    key: bytes | None
    answer: Answer | None
    reused: bool = False
    share: float | None = None

    def answered(self, answer: Answer) -> JobAnswer:
        """Return it with an answer, to whose warnings come those of the mapping."""
        warnings = [*self.mapped.warnings, *(answer.warnings or ())]
        return self._replace(answer=replace(answer, warnings=warnings or None))


class JobRow(NamedTuple):
    """A row of the table, with an answer for each task."""

    source: TableRow
    answers: Sequence[JobAnswer]

    @property
    def reused(self) -> bool:
        """Whether the row was answered by the journal alone."""
        answers = self.answers
        return any(each.reused for each in answers) and all(each.reused or each.mapped.error for each in answers)


class JobStep(NamedTuple):
    """What a job's progress is told with each answer: the row's number, and what JobAnswer says of it."""

    answer: Answer
    number: int
    share: float | None
    reused: bool
