"""A person's answers, from a review table that was corrected, in place of the model's.

They are kept in the job's journal: the same job, run again, writes them too. Nothing is asked of a model here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecellm_lite.answers.answer import Answer, AnswerWarning, ModelName
from ecellm_lite.answers.space import Space
from ecellm_lite.errors import InputError, UsageError
from ecellm_lite.jobs.review import CORRECTION, KEY, shown_key
from ecellm_lite.models.files import replacing
from ecellm_lite.tables.cells import cell_text, is_empty
from ecellm_lite.tables.opening import open_table
from ecellm_lite.tables.row import TableRow
from ecellm_lite.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Written:
    """What a person wrote into a review table, and the line that it stands in."""

    text: str
    line: int


@dataclass(slots=True)
class Corrections:
    """The answers that take the place of a model's, by their rows' keys; `space` is the request's own, if it has one.

    `kept` are answer strings from the journal, `written` what a review table brings. `used` are the answer strings of
    the rows that were corrected, and `labelled` those rows with their answers.
    """

    task: Task
    kept: Mapping[bytes, str]
    written: Mapping[str, Written] = field(default_factory=dict)
    space: Space | None = None
    name: str = "the review table"
    used: dict[bytes, str] = field(default_factory=dict)
    labelled: list[Mapping[str, Any]] = field(default_factory=list)

    def apply(self, row: Mapping[str, Any], key: bytes, answer: Answer) -> Answer:
        """Return an answer as a person corrected it, or as it is; raises InputError for what is no answer."""
        written = self.written.get(shown_key(key) or "")
        if written is None and key not in self.kept:
            return answer
        space = self.space or self.task.question(row).space
        text = self._text(space, written) if written else self.kept[key]
        self.used[key] = text
        self.labelled.append(labelled_row(self.task, row, text))
        return corrected(answer, space, text)

    @property
    def unused(self) -> int:
        """How many lines of the review table belong to no row."""
        keys = {shown_key(key) for key in self.used}
        return sum(key not in keys for key in self.written)

    def _text(self, space: Space, written: Written) -> str:
        try:
            return space.written(written.text)
        except InputError as error:
            message = f"The correction in line {written.line} of {self.name} is no answer: {error.message}"
            raise InputError(message, step=error.step, line=written.line) from None


def read_corrections(path: Path) -> dict[str, Written]:
    """Return what a person wrote into a review table, by the rows' keys; lines without a correction are left out.

    Raises InputError for a file that is no review table, or has two corrections of the same row that differ.
    """
    corrections: dict[str, Written] = {}
    with open_table(path) as table:
        if table.columns is not None and not {CORRECTION, KEY} <= set(table.columns):
            raise InputError(
                f"{path} has no columns {CORRECTION} and {KEY}",
                step="give a review table of this job, with its columns as they were written",
                file=str(path),
            )
        for row in table.rows():
            if row.error:
                raise row.error
            if is_empty(row.cells.get(CORRECTION)):
                continue
            key = row.cells.get(KEY)
            if not isinstance(key, str) or not key.strip():
                raise InputError(
                    f"Line {row.line} of {path} has a correction and no {KEY}",
                    step="take the review table as it was written: a row that could not be read cannot be corrected",
                    line=row.line,
                )
            written = _written(row)
            before = corrections.setdefault(key.strip(), written)
            if before.text != written.text:
                raise InputError(
                    f"Lines {before.line} and {written.line} of {path} correct the same row in two ways",
                    step="give both the same answer",
                    line=written.line,
                )
    return corrections


def corrected(answer: Answer, space: Space, text: str) -> Answer:
    """Return an answer with a person's answer string in place of the model's."""
    instead = "no answer" if answer.text is None else repr(answer.text)
    warning = AnswerWarning("corrected", f"Corrected by a person, in place of {instead}.")
    return replace(
        answer,
        type=space.type,
        value=space.value_of(text),
        text=text,
        probability=None,
        probabilities=None,
        confidence=None,
        abstained=False,
        warnings=[*(answer.warnings or ()), warning],
        error=None,
    )


def failed(task: Task, error: InputError, facts: Mapping[str, str]) -> Answer:
    """Return the answer of a row that could not be read; `facts` are those of the job that it was in."""
    name, _, sha256 = facts.get("model", "").rpartition(" ")
    return Answer.failed(task.name, error, model=ModelName(name, sha256), envelope=facts.get("envelope", ""))


def labelled_row(task: Task, row: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a row with its right answer, as `eval`, `calibrate` and `train` take it."""
    named = {"id": row["id"]} if row.get("id") is not None else {}
    if "input" in row and "input" not in {each.name for each in task.fields}:  # in the data set's own form
        return {"task": task.name, **row, "output": text}
    fields = {name: value for name, value in row.items() if name != "id"}
    return {**named, "task": task.name, "input": fields, "output": text}


def write_labelled(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write labelled rows as JSON Lines, in a folder that is made if need be; raises InputError if it cannot be."""
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, default=str) + "\n" for row in rows)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror})", step="give another file", settings=("labelled",)
        ) from None


def missing_answer(number: int) -> UsageError:
    """Return the error for a row that was not answered yet."""
    return UsageError(
        f"Row {number} has no answer yet, and a correction asks nothing of a model",
        step="let the job end first, with the same table and mapping",
        settings=("rows", "map"),
    )


def _written(row: TableRow) -> Written:
    cell = row.cells[CORRECTION]
    if isinstance(cell, list) and all(isinstance(part, str) for part in cell):  # a ranking, in JSON Lines
        cell = ",".join(cell)
    return Written(cell_text(cell).strip(), row.line)
