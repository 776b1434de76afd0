"""Makes a task's row from a table's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ecellm_lite.answers.answer import Answer, AnswerWarning
from ecellm_lite.errors import InputError
from ecellm_lite.tables.row import TableRow


@dataclass(frozen=True, slots=True)
class MappedRow:
    """A table's row (`source`), and the row of a task that was made from its cells (`row`).

    `row` is None if the row has an `error` or is skipped. `warnings` say how the cells were changed.
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
        """What to submit to an Answerer: the task's row, or the error. Do not use this for a skipped row."""
        request = self.error or self.row
        assert request is not None
        return request

    def warned(self, answer: Answer) -> Answer:
        """Return the answer to this row, with the row's warnings added."""
        if not self.warnings:
            return answer
        return replace(answer, warnings=(*(answer.warnings or ()), *self.warnings))
