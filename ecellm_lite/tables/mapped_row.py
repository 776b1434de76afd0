"""A row of a table with its cells mapped to a task's fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.errors import InputError
from ecellm_lite.tables.row import TableRow


@dataclass(frozen=True, slots=True)
class MappedRow:
    """A row of a table with its cells mapped to a task's fields.

    `row` is None if the row has an `error` or is `skipped`. `warnings` describe changes to its cells.
    """

    source: TableRow
    row: Mapping[str, Any] | None
    error: InputError | None = None
    warnings: tuple[AnswerWarning, ...] = ()

    @property
    def skipped(self) -> bool:
        """Whether the row is skipped and gets no answer."""
        return self.row is None and self.error is None

    @property
    def request(self) -> Mapping[str, Any] | InputError:
        """The row or its error, to be passed to an Answerer. Do not use this for a skipped row."""
        request = self.error or self.row
        assert request is not None
        return request

    def warned(self, answer: Answer) -> Answer:
        """Return the answer to this row with the mapping's warnings added."""
        if not self.warnings:
            return answer
        return replace(answer, warnings=(*(answer.warnings or ()), *self.warnings))
