"""A row inside a job, with the answers to all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ecellm_lite.answers.answer import Answer
from ecellm_lite.tables.mapped_row import MappedRow
from ecellm_lite.tables.row import TableRow


class JobAnswer(NamedTuple):
    """A row, with its columns mapped to the fields of one task, and the task's answer.

    `key`: identifies the row in the journal and the review table. None if there is no journal, or for a skipped row.
    `answer`: None if the row was skipped, or is not answered yet.
    `reused`: whether the answer is from the journal.
    `share`: the share of the table that had been read when this row was read, from 0 to 1. None if not known.
    """

    mapped: MappedRow
    key: bytes | None
    answer: Answer | None
    reused: bool = False
    share: float | None = None

    def answered(self, answer: Answer) -> JobAnswer:
        """Return a copy of this row with an answer.

        Warnings from mapping the columns come before the answer's own warnings.
        """
        warnings = [*self.mapped.warnings, *(answer.warnings or ())]
        return self._replace(answer=replace(answer, warnings=warnings or None))


class JobRow(NamedTuple):
    """A row of the table, with an answer for each task."""

    source: TableRow
    answers: Sequence[JobAnswer]

    @property
    def reused(self) -> bool:
        """Whether all answers to this row came from the journal.

        If the row could not be read for a task, only the other tasks count.
        """
        answers = self.answers
        return any(each.reused for each in answers) and all(each.reused or each.mapped.error for each in answers)


class JobStep(NamedTuple):
    """The argument of a job's progress function: an answer and its row's number.

    `share`: the share of the table that had been read when this row was read, from 0 to 1. None if not known.
    `reused`: whether the answer is from the journal.
    """

    answer: Answer
    number: int
    share: float | None
    reused: bool
