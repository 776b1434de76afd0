"""The columns that a job adds for a row's answer, and their values.

The column `answer` has the answer's text, such as `yes` or `B: positive`. For a score, it has a number. For a ranking,
it has the order, such as `B, A, C`. If the model wrote only a letter for the chosen value, the column has the value.

For an extraction in which all rows have the same attributes, there is one column for each attribute. Otherwise, an
extraction's column `answer` has a JSON object with the attributes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from ecellm_lite.answers.answer import Answer
from ecellm_lite.tables.attribute_columns import attribute_cells, attribute_columns, extracted
from ecellm_lite.tables.header import distinct
from ecellm_lite.tables.kinds import Kind
from ecellm_lite.tasks.attributes import Attribute
from ecellm_lite.tasks.task import Task

_BESIDE = {
    "probability": Kind.ESTIMATE,
    "confidence": Kind.ESTIMATE,
    "abstained": Kind.TRUTH,
    "warnings": Kind.TEXT,
    "error": Kind.TEXT,
}


_NOTHING: Mapping[str, str | None] = {}
_DECIMALS = 4  # of a probability in tables for people


@dataclass(frozen=True, slots=True)
class OwnColumn:
    """A column that a job adds: its name and its type.

    `options`: the texts that a person may choose from when filling in the column. Other texts are allowed, too.
    """

    name: str
    kind: Kind
    options: tuple[str, ...] = ()

    def shown(self, value: Any) -> Any:
        """Return a value as tables for people show it. If the column has estimates, such as probabilities, round it."""
        return round(value, _DECIMALS) if self.kind is Kind.ESTIMATE and isinstance(value, float) else value


class AnswerColumns:
    """The columns that a job adds to a table. Their names differ from the names of the table's own columns.

    `attributes`: the attributes of an extraction, if all rows have the same attributes.
    `scores`: whether the answers are numbers.
    `more`: further columns, whose values do not come from the answer.
    `task`: the prefix of each column's name if there are several tasks, as in `sentiment_analysis.answer`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        attributes: Sequence[Attribute] = (),
        scores: bool = False,
        more: Sequence[OwnColumn] = (),
        task: str | None = None,
    ) -> None:
        kinds = attribute_columns(attributes) or [("answer", Kind.ESTIMATE if scores else Kind.TEXT)]
        own = [*(OwnColumn(name, kind) for name, kind in (*kinds, *_BESIDE.items())), *more]
        before = f"{task}." if task else ""
        names = distinct([*columns, *(before + column.name for column in own)])[len(columns) :]
        self.columns = tuple(replace(column, name=name) for name, column in zip(names, own, strict=True))
        self._more = tuple(column.name for column in more)
        self._attributes = tuple(attributes)
        self._scores = scores

    @classmethod
    def of(
        cls,
        task: Task,
        columns: Sequence[str],
        *,
        attributes: Sequence[Attribute] = (),
        more: Sequence[OwnColumn] = (),
        named: bool = False,
    ) -> AnswerColumns:
        """Return the columns that a job adds for a task's answers.

        `columns`: the names of the table's own columns.
        `attributes`: the attributes of an extraction, if all rows have the same attributes.
        `more`: further columns, whose values do not come from the answer.
        `named`: whether each added column's name begins with the task's name.
        """
        scores = task.question(task.example()).space.type == "score"
        return cls(columns, attributes=attributes, scores=scores, more=more, task=task.name if named else None)

    def values(self, answer: Answer | None, more: Mapping[str, str | None] = _NOTHING) -> tuple[Any, ...]:
        """Return an answer's values, one for each column.

        If the answer is None (a skipped row), all values are None. `more`: the values of the further columns, by the
        column's name.
        """
        if answer is None:
            return (None,) * len(self.columns)
        warnings = "; ".join(warning.message for warning in answer.warnings or ()) or None
        shortened = answer.shortened and f"Shortened: {answer.shortened}"
        return (
            *self._answer(answer),
            answer.probability,
            answer.confidence,
            answer.abstained,
            "; ".join(filter(None, (shortened, warnings))) or None,
            answer.error and answer.error.message,
            *(more.get(name) for name in self._more),
        )

    def _answer(self, answer: Answer) -> tuple[Any, ...]:
        if self._attributes:
            return tuple(attribute_cells(self._attributes, answer.value))
        if self._scores:
            return (answer.value,)
        return (shown_text(answer) if answer.type == "score" else answer_cell(answer),)


def answer_cell(answer: Answer) -> str | float | None:
    """Return the value of the column `answer`: a number for a score, otherwise a text, or None without an answer."""
    if answer.value is None or answer.type == "score":
        return cast("float | None", answer.value)
    if answer.type == "ranking":
        return ", ".join(answer.value)
    if answer.type == "extraction":
        return json.dumps(extracted(answer.value), ensure_ascii=False)
    return shown_text(answer)


def shown_text(answer: Answer) -> str | None:
    """Return an answer's text for people to read.

    For a choice, this is the text if it begins with the chosen value (`answer.value`), as in "A: very positive" with
    the value "A". Otherwise it is the value: if an option's text is "A" and its value "mugs", people look for "mugs".
    """
    if answer.type == "choice" and answer.text is not None and not answer.text.startswith(str(answer.value)):
        return str(answer.value)
    return answer.text
